"""Compare performance estimates without labels with the labels, on real images, clean and darkened.

    python -m benchmarks.estimation                           # plants, castings, solar: minutes, mostly for features
    python -m benchmarks.estimation --only plants --seeds 2   # a quick trial
    python -m benchmarks.estimation --simulate                # coverage with known truth instead

Each seed splits each data set: half trains a head on the frozen backbone, a fifth is val (temperature, threshold and
calibration), and the rest is unseen traffic. Windows are drawn from the traffic, unchanged and darkened; each is
estimated from its probabilities, and scored on its labels as `evaluate` scores a test split. *In labelled*: the
estimate is in the labelled 95 % interval. *Covers*: the estimate's interval contains the labelled value, as it should
for 95 % of windows. *Undefined*: too few images of a class, on either side.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.rows import cores
from visionops.config import Config, load_config
from visionops.data.cleaning import clean
from visionops.data.dataset import Dataset, Split
from visionops.data.formats import read_dataset
from visionops.data.hashing import hash_images
from visionops.data.settings import SplitConfig
from visionops.data.splitting.assignment import assign_splits
from visionops.data.validation.judging import validate
from visionops.evaluation.resampling import percentile_intervals, resample
from visionops.inference.bundle import Head, ModelBundle
from visionops.inference.image import decode_image
from visionops.inference.predictor import Load, Predictor
from visionops.monitoring.estimation.estimating import Estimator, TooFewError
from visionops.monitoring.estimation.held_out import HeldOut, truth_of
from visionops.monitoring.estimation.probabilities import answers_of, split_by_head
from visionops.monitoring.settings import EstimationSettings
from visionops.monitoring.simulate import Kind, modify
from visionops.tasks.base import NoLog
from visionops.tasks.classification.calibration import choose_threshold, fit_temperature
from visionops.tasks.classification.decoder import softmax
from visionops.tasks.classification.heads import fit_head
from visionops.tasks.classification.scoring import Outcome, figure_of
from visionops.tasks.classification.settings import LabelTraining, Learning
from visionops.tasks.conversion import convert
from visionops.tasks.spec import task_for

__all__ = ["Window", "main", "simulate"]

_SPLIT = {"val": 0.2, "test": 0.3}
_LIGHT = {"clean": 1.0, "light x 0.5": 0.5, "light x 0.25": 0.25}
_SIZES = (50, 100, 300)
_RESAMPLES = 1000
_BACKBONE = "efficientnet_lite0"
USE_CASES = {"plants": "plants", "casting": "casting", "solar": "", "faces": "faces"}
"""Folder of each use case in the shared data; "" for data from a package."""

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """Estimate and score of one window."""

    use_case: str
    light: str
    images: int
    estimate: tuple[float, float, float] | None
    """Value and interval (low, high); None with too few images."""
    labelled: tuple[float, float, float] | None

    @property
    def is_within(self) -> bool:
        """Whether the estimate is in the labelled interval."""
        assert self.estimate
        assert self.labelled
        return self.labelled[1] <= self.estimate[0] <= self.labelled[2]

    @property
    def is_covered(self) -> bool:
        """Whether the estimate's interval contains the labelled value."""
        assert self.estimate
        assert self.labelled
        return self.estimate[1] <= self.labelled[0] <= self.estimate[2]


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.estimation", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--only", default="plants,casting,solar", help="data sets, also faces: %(default)s")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="real images: %(default)s")
    parser.add_argument("--seeds", type=int, default=10, help="splits of each data set: %(default)s")
    parser.add_argument("--windows", type=int, default=5, help="windows per split, light and size: %(default)s")
    parser.add_argument("--images", type=int, default=600, help="maximum number of images per data set: %(default)s")
    parser.add_argument("--features", type=Path, help="folder that keeps features between runs")
    parser.add_argument("--simulate", action="store_true", help="coverage on simulated windows instead")
    parser.add_argument("--json", type=Path, help="write every window to this file")
    options = parser.parse_args(arguments)
    if options.simulate:
        _print_simulation()
        return 0
    windows: list[Window] = []
    _print_head()
    for name in options.only.split(","):
        found = list(_measure(name, options))
        _print(found)
        windows += found
    if options.json:
        options.json.write_text(json.dumps([dataclasses.asdict(window) for window in windows]), encoding="utf-8")
    return 0


def _measure(name: str, options: argparse.Namespace) -> Iterator[Window]:
    config = load_config(Path("configs", f"{name}.yaml"))
    dataset = _read(config, options.data).take_evenly(options.images)
    kept = (options.features or Path(tempfile.mkdtemp(prefix="visionops-estimation-"))) / f"{name}.npz"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        seen: dict[str, Any] = _features(config, dataset, kept.parent / name)
        np.savez(kept, **seen)
    with np.load(kept) as found:
        features = {light: found[light] for light in _LIGHT}
    for seed in range(options.seeds):
        yield from _windows(config, dataset, features, seed, options.windows)


def _read(config: Config, data: Path) -> Dataset:
    """Read, validate and clean as the pipeline does, ignoring the data set's own splits."""
    folder = data / USE_CASES[config.name]
    if not USE_CASES[config.name]:
        package = importlib.util.find_spec("elpv_dataset")
        assert package is not None
        assert package.origin
        folder = Path(package.origin).parent / "data"
    dataset = hash_images(read_dataset(folder.absolute(), config.data, config.name, task_for(config.task).fit_dataset))
    dataset = clean(dataset, validate(dataset, config.validation))
    labelled = np.flatnonzero((dataset.label_array() >= 0).any(axis=1))
    dataset = dataset.take(labelled)
    return dataset.replace_column("split", [""] * dataset.num_images)


def _features(config: Config, dataset: Dataset, work: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Return the backbone's features of every image in every light, float32 (images, width), by the serving engine.

    It trains a head on a few images only to get a bundle with that backbone.
    """
    training = LabelTraining(task=config.task, model=_BACKBONE, learning=Learning.FROZEN)
    plan = config.training_plan.model_copy(update={"training": training})
    converted = convert(_cut(config, dataset.take_evenly(120), 0), plan.conversion, work / "converted")
    bundle = task_for(config.task).train(converted, plan, work / "training", NoLog())
    assert isinstance(bundle, ModelBundle)
    predictor = Predictor(bundle, streams=cores(), load=Load(images=1))

    def see(path: Path) -> list[npt.NDArray[np.float32]]:
        rgb = decode_image(path.read_bytes(), where=str(path))
        rng = np.random.default_rng(0)
        darkened = (modify(rgb, Kind.BRIGHTNESS, -float(np.log2(light)), rng) for light in _LIGHT.values())
        return [predictor.predict(pixels).embedding for pixels in darkened]

    with ThreadPoolExecutor(cores()) as pool:
        seen = list(pool.map(see, dataset.paths()))
    return {light: np.stack([views[i] for views in seen]) for i, light in enumerate(_LIGHT)}


def _cut(config: Config, dataset: Dataset, seed: int) -> Dataset:
    return assign_splits(dataset, SplitConfig(**(config.data.split.model_dump() | _SPLIT | {"seed": seed})))


def _windows(
    config: Config, dataset: Dataset, features: dict[str, npt.NDArray[np.float32]], seed: int, count: int
) -> Iterator[Window]:
    cut = _cut(config, dataset, seed)
    position = {key: row for row, key in enumerate(dataset.column("key"))}
    rows = {
        split: np.array([position[key] for key in cut.select_split(split).column("key")], dtype=np.int64)
        for split in (Split.TRAIN, Split.VAL, Split.TEST)
    }
    heads = tuple(Head(name=a.name, class_names=a.class_names, positive=a.positive) for a in dataset.attributes)
    truth = truth_of(dataset, heads)
    clean_features = features["clean"]
    heads, layers = _train(config, heads, truth, clean_features, rows)
    held_out = HeldOut(_probabilities(heads, layers, clean_features[rows[Split.VAL]]), truth[rows[Split.VAL]])
    metric = config.scoring.metric
    estimator = Estimator(heads, held_out, metric, EstimationSettings())
    rng = np.random.default_rng([17, seed])
    traffic = rows[Split.TEST]
    for size in [size for size in _SIZES if size <= len(traffic)]:
        drawn = [rng.permutation(traffic)[:size] for _ in range(count)]
        for light, seen in features.items():
            for chosen in drawn:
                probabilities = _probabilities(heads, layers, seen[chosen])
                yield Window(
                    config.name,
                    light,
                    size,
                    _estimate(estimator, probabilities),
                    _score(heads, probabilities, truth[chosen], metric),
                )


def _train(
    config: Config,
    heads: Sequence[Head],
    truth: Ids,
    features: npt.NDArray[np.float32],
    rows: dict[Split, Ids],
) -> tuple[tuple[Head, ...], list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]]:
    """Solve each head, and choose its temperature and threshold on val, as training does."""
    training = config.training
    assert isinstance(training, LabelTraining)
    train, val = rows[Split.TRAIN], rows[Split.VAL]
    done, layers = [], []
    for column, head in enumerate(heads):
        solved = fit_head(
            (features[train][:, None], truth[train, column], np.ones(len(train))),
            (features[val], truth[val, column]),
            len(head.class_names),
            balance=training.balance,
        )
        logits = features[val] @ solved.weight.T + solved.bias
        temperature = fit_temperature(logits, truth[val, column])
        threshold = None
        if head.positive is not None:
            positive = head.class_names.index(head.positive)
            p = softmax(logits / temperature)[:, positive]
            threshold = choose_threshold(p, truth[val, column] == positive, training.threshold, head.name)
        done.append(head.model_copy(update={"temperature": temperature, "threshold": threshold}))
        layers.append((solved.weight, solved.bias))
    return tuple(done), layers


def _probabilities(
    heads: Sequence[Head],
    layers: Sequence[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]],
    features: npt.NDArray[np.float32],
) -> Floats:
    """Return the probabilities in the record, float64 (images, classes of all heads)."""
    parts = [
        softmax((features @ weight.T + bias) / head.temperature)
        for head, (weight, bias) in zip(heads, layers, strict=True)
    ]
    return _as_kept(np.concatenate(parts, axis=1))


def _as_kept(probabilities: npt.NDArray[np.float32]) -> Floats:
    """Round probabilities to six digits, like the record."""
    kept: Floats = probabilities.astype(np.float64)
    return kept.round(6)


def _estimate(estimator: Estimator, probabilities: Floats) -> tuple[float, float, float] | None:
    try:
        guess = estimator.estimate(probabilities)
    except TooFewError:
        return None
    return guess.value, guess.low, guess.high


def _score(heads: Sequence[Head], probabilities: Floats, truth: Ids, metric: str) -> tuple[float, float, float] | None:
    parts = split_by_head(probabilities, heads)
    outcomes = [
        Outcome(head, truth[:, column], part, answers_of(head, part))
        for column, (head, part) in enumerate(zip(heads, parts, strict=True))
    ]
    images = len(truth)
    value = float(figure_of(outcomes, np.ones((1, images)), metric)[0])
    if np.isnan(value):
        return None
    replicates = np.concatenate([figure_of(outcomes, weights, metric) for weights in resample(images, _RESAMPLES)])
    return (value, *percentile_intervals({metric: replicates})[metric])


def _print_head() -> None:
    print("| use case | light | images | windows | estimate | labelled | in labelled | covers | undefined |")
    print("|---|---|---|---|---|---|---|---|---|")


def _print(windows: Sequence[Window]) -> None:
    """Print a row per light and size, with means over the windows and the share in which the two agree."""
    for light in _LIGHT:
        for size in _SIZES:
            group = [w for w in windows if w.light == light and w.images == size]
            both = [w for w in group if w.estimate and w.labelled]
            if not both:
                continue
            estimate, labelled = (
                np.mean([getattr(w, name) for w in both], axis=0) for name in ("estimate", "labelled")
            )
            agree, hold = sum(w.is_within for w in both), sum(w.is_covered for w in both)
            print(
                f"| {both[0].use_case} | {light} | {size} | {len(both)} | {_interval(estimate)} "
                f"| {_interval(labelled)} | {agree} | {hold} | {len(group) - len(both)} |",
                flush=True,
            )


def _interval(figures: npt.NDArray[np.float64]) -> str:
    value, low, high = figures
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def simulate(
    metric: str, classes: int, held_out: int, images: int, runs: int, sharpness: float = 1.0, draws: int = 300
) -> tuple[float, float, float]:
    """Estimate windows whose truth is drawn from known probabilities.

    Args:
        sharpness: Factor of the model's logits over the true ones: 1 is calibrated, above 1 is overconfident.

    Returns:
        Share of windows whose value is in the estimate's interval, mean error, mean width of the interval.
    """
    heads = [Head(name="class", class_names=tuple(f"c{k}" for k in range(classes)))]
    settings = EstimationSettings(draws=draws)
    covered, errors, widths = 0, [], []
    for run in range(runs):
        rng = np.random.default_rng([run, classes, held_out, images])
        probabilities, truth = _simulated(rng, held_out, classes, sharpness)
        seen, hidden = _simulated(rng, images, classes, sharpness)
        estimator = Estimator(heads, HeldOut(probabilities, truth[:, None]), metric, settings)
        guess = estimator.estimate(seen)
        true = float(figure_of([Outcome(heads[0], hidden, seen, seen.argmax(axis=1))], np.ones((1, images)), metric)[0])
        covered += guess.low <= true <= guess.high
        errors.append(guess.value - true)
        widths.append(guess.high - guess.low)
    return covered / runs, float(np.mean(errors)), float(np.mean(widths))


def _simulated(rng: np.random.Generator, images: int, classes: int, sharpness: float) -> tuple[Floats, Ids]:
    logits = rng.normal(0, 4, (images, classes))
    true = softmax(logits.astype(np.float32)).astype(np.float64)
    truth = (rng.random((images, 1)) >= true.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return _as_kept(softmax((logits * sharpness).astype(np.float32))), truth


def _print_simulation() -> None:
    print("| metric | classes | sharpness | held out | images | covered | mean error | mean width |")
    print("|---|---|---|---|---|---|---|---|")
    for metric, classes in (("accuracy", 2), ("accuracy", 4), ("balanced_accuracy", 2), ("f1", 4), ("roc_auc", 2)):
        for sharpness in (1.0, 1.5):
            for held_out in (30, 100, 500):
                for images in (100, 1000):
                    share, error, width = simulate(metric, classes, held_out, images, 200, sharpness)
                    print(
                        f"| {metric} | {classes} | {sharpness} | {held_out} | {images} | {share:.3f} | {error:+.4f} "
                        f"| {width:.3f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    sys.exit(main())
