"""Compare INT8 with the float graph of the same bundle in one run: metrics on the test split, and speed.

    python -m benchmarks.quantize --config configs/sample.yaml [--set key=value] [--rounds 200]

It uses the bundle of the use case's newest ``--pipeline quantize`` on this machine. The interval of a difference is
paired: both graphs use the same bootstrap draws of the test images. Speed is measured for the engine alone, with the
contestants taking turns on each image.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from visionops.config import Config, load_config
from visionops.data.cleaning import clean
from visionops.data.dataset import Dataset, Split
from visionops.data.formats import read_dataset
from visionops.data.hashing import hash_images
from visionops.data.sources import fetch
from visionops.data.splitting.assignment import assign_splits
from visionops.data.validation.judging import validate
from visionops.errors import VisionOpsError
from visionops.home import visionops_home
from visionops.inference.bundle import ModelBundle
from visionops.inference.engines import available_cpus, load_engine
from visionops.inference.predictor import Predictor
from visionops.inference.preprocessing import preprocess
from visionops.inference.settings import EngineName, Precision
from visionops.tasks.spec import task_for

__all__ = ["compare", "measure_speed"]

_WARM_UP = 10


def compare(bundle: ModelBundle, dataset: Dataset, config: Config) -> dict[str, tuple[float, float, float, float]]:
    """Return the metrics of the test split: float, INT8, and the 95 % interval of INT8 minus float.

    Args:
        bundle: Quantized bundle.
    """
    brief = config.scoring.brief()
    whole, small = (
        task_for(config.task).evaluate(bundle.in_precision(p), dataset, brief, None)
        for p in (Precision.F32, Precision.INT8)
    )
    rows = {}
    for name, replicates in small.replicates.items():
        low, high = np.nanpercentile(np.subtract(replicates, whole.replicates[name]), [2.5, 97.5])
        rows[name] = (whole.metrics[name], small.metrics[name], float(low), float(high))
    return rows


def measure_speed(bundle: ModelBundle, image: bytes, rounds: int) -> dict[str, npt.NDArray[np.float64]]:
    """Return the milliseconds of each inference of one image on all cores, by contestant: float64 (rounds,)."""
    tensor, _ = preprocess(Predictor(bundle).pixels(image), bundle.card.preprocessing)
    contestants: dict[str, Callable[[], object]] = {}
    for precision, engine in (
        (Precision.F32, EngineName.OPENVINO),
        (Precision.INT8, EngineName.OPENVINO),
        (Precision.F32, EngineName.ONNXRUNTIME),
    ):
        loaded = load_engine(bundle.in_precision(precision), engine)
        contestants[f"{engine.value} {precision.value}"] = functools.partial(loaded.infer, tensor)
    spans: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds + _WARM_UP):
        for name, infer in contestants.items():
            start = time.perf_counter()
            infer()
            spans[name].append((time.perf_counter() - start) * 1000)
    return {name: np.array(values[_WARM_UP:]) for name, values in spans.items()}


def _prepared(config: Config) -> Dataset:
    """Return the data set as the pipeline prepares it."""
    root = fetch(config.data.source, visionops_home() / "data")
    dataset = hash_images(read_dataset(root, config.data, config.name, task_for(config.task).fit_dataset))
    return assign_splits(clean(dataset, validate(dataset, config.validation)), config.data.split)


def _newest_bundle(name: str) -> ModelBundle:
    cards = sorted(
        (visionops_home() / "quantization").glob(f"{name}-*/bundle.json"), key=lambda path: path.stat().st_mtime
    )
    if not cards:
        raise VisionOpsError(f"{name}: no quantized bundle on this machine; run --pipeline quantize first")
    return ModelBundle.load(cards[-1].parent)


def main(argv: Sequence[str] | None = None) -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="benchmarks.quantize", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--config", type=Path, default=Path("configs/sample.yaml"), metavar="FILE")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_args(argv)
    try:
        config = load_config(arguments.config, arguments.set)
        bundle, dataset = _newest_bundle(config.name), _prepared(config)
        print(f"{config.name}: {bundle.folder.name}, {dataset.split_counts().get('test', 0)} test images")
        for name, (whole, small, low, high) in compare(bundle, dataset, config).items():
            print(f"  {name:<18} f32 {whole:.4f}  int8 {small:.4f}  {small - whole:+.4f} ({low:+.4f} to {high:+.4f})")
        image = dataset.select_split(Split.TEST).paths()[0].read_bytes()
        spans = measure_speed(bundle, image, arguments.rounds)
    except VisionOpsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    spec = bundle.card.preprocessing
    print(f"engine alone, {spec.width} x {spec.height}, {available_cpus()} cores, ms an image; ratio of medians")
    reference = float(np.median(spans["openvino f32"]))
    for name, values in spans.items():
        median = float(np.median(values))
        print(f"  {name:<18} median {median:6.2f}  best {values.min():6.2f}  {reference / median:.2f} x openvino f32")
    return 0


if __name__ == "__main__":
    sys.exit(main())
