"""Measure how fast data is converted, validated and passed between steps, against peers and the machine's limits.

Run it as ``python -m benchmarks.data [--only conversion,validation,handover] [--small] [--json FILE]``. Contestants
take turns in one process on the same files; the best of three rounds counts, because noise only adds time.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import dataclasses
import functools
import io
import json
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.handover_converted import conversions, count_sent_bytes
from benchmarks.rows import Row, cores, print_rows
from visionops.data.dataset import Dataset
from visionops.data.hashing import hash_images
from visionops.data.settings import SampleSource, ValidationPolicy

__all__ = ["main"]

_ROUNDS = 3
_PIPELINE_ROUNDS = 8  # half a second each, mostly ZenML's own and uneven


def main(arguments: list[str] | None = None) -> int:
    """Run the chosen parts and print them. Returns 1 when a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(_PARTS), help="parts, separated by commas: %(default)s")
    parser.add_argument("--small", action="store_true", help="a tenth of the data, for a quick trial")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args(arguments)
    chosen = options.only.split(",")
    if unknown := [name for name in chosen if name not in _PARTS]:
        parser.error(f"unknown part {unknown[0]!r}; expected {', '.join(_PARTS)}")
    result: dict[str, list[Row]] = {}
    for name in chosen:
        with tempfile.TemporaryDirectory(prefix="visionops-benchmark-") as folder:
            result[name] = _PARTS[name](Path(folder), 10 if options.small else 1)
        print_rows(f"{name}  ({cores()} cores, best of {_ROUNDS})", result[name])
    if options.json:
        document = {
            "cores": cores(),
            "rounds": _ROUNDS,
            "small": options.small,
            "parts": {name: [dataclasses.asdict(row) for row in rows] for name, rows in result.items()},
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return int(any(row.met is False for rows in result.values() for row in rows))


@dataclasses.dataclass(frozen=True, slots=True)
class _Cost:
    """Seconds of the best round. ``cpu``, over all threads, is least affected by other programs on the machine."""

    wall: float = float("inf")
    cpu: float = float("inf")


def _best(contestants: dict[str, Callable[[], Any]], rounds: int = _ROUNDS) -> dict[str, _Cost]:
    """Return the cost of each contestant; they take turns, so that a busy moment affects all."""
    best = dict.fromkeys(contestants, _Cost())
    for _ in range(rounds):
        for name, run in contestants.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            best[name] = _Cost(min(best[name].wall, wall), min(best[name].cpu, cpu))
    return best


# ---- conversion


def measure_conversion(folder: Path, shrink: int) -> list[Row]:
    """Measure COCO to YOLO: ours, which also links the images, Ultralytics' converter, and the plain file system."""
    os.environ.setdefault("YOLO_OFFLINE", "1")
    from ultralytics.data.converter import convert_coco
    from ultralytics.utils import LOGGER

    from visionops.data.formats import read_dataset
    from visionops.data.formats.yolo_export import write_yolo
    from visionops.data.settings import DataConfig, FolderSource, Format

    images, boxes = 20_000 // shrink, 64_000 // shrink
    root = folder / "coco"
    truth = _write_coco(root, images, boxes)
    data = DataConfig(source=FolderSource(kind="folder", path=root), format=Format.COCO)

    def fresh(name: str) -> Path:
        return folder / f"{name}-{uuid.uuid4().hex}"

    def ours_unseen() -> None:
        write_yolo(read_dataset(root, data, "benchmark"), fresh("unseen"))

    def ours() -> None:
        dataset = read_dataset(root, data, "benchmark")
        write_yolo(dataset.replace_column("plain", [True] * images), fresh("ours"))

    def theirs() -> None:
        LOGGER.setLevel("ERROR")
        with _quiet():
            convert_coco(str(root), str(fresh("theirs")), cls91to80=False)

    def limit() -> None:
        _bare_conversion(root, fresh("limit"))

    best = _best({"limit": limit, "theirs": theirs, "ours": ours, "unseen": ours_unseen})
    mine, other = (_account(next(folder.glob(f"{name}-*")), truth) for name in ("ours", "theirs"))
    ratio = best["theirs"].wall / best["ours"].wall
    return [
        Row("limit: parse JSON, write and link files", images / best["limit"].wall, "images/s"),
        Row("ultralytics convert_coco", images / best["theirs"].wall, "images/s"),
        Row("ours, after validation", images / best["ours"].wall, "images/s"),
        Row("ours, headers of images not yet read", images / best["unseen"].wall, "images/s"),
        Row("ours / ultralytics", ratio, "x", ">= 2.5", ratio >= 2.5),
        Row("the same in CPU time", best["theirs"].cpu / best["ours"].cpu, "x"),
        Row("ours / ultralytics, headers not yet read", best["theirs"].wall / best["unseen"].wall, "x"),
        Row("the same in CPU time", best["theirs"].cpu / best["unseen"].cpu, "x"),
        Row("ours / limit", best["limit"].wall / best["ours"].wall, "x"),
        *(Row(f"lost by ultralytics: {what}", n, "") for what, n in other.items()),
        *(Row(f"lost by ours: {what}", n, "", "0", n == 0) for what, n in mine.items()),
    ]


@dataclasses.dataclass(frozen=True, slots=True)
class _Truth:
    """Counts that a converter must keep."""

    images: int
    empty: int
    boxes: int


def _write_coco(root: Path, images: int, boxes: int) -> _Truth:
    """Write one COCO file like TACO; a seventh of the images is empty, and a tenth of the boxes crosses a border."""
    rng = np.random.default_rng(0)
    width, height = 640, 480
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (120, 122, 125)).save(buffer, "JPEG", quality=30)
    names = [f"batch_{i % 16}/{i:06d}.jpg" for i in range(images)]
    for batch in range(16):
        (root / f"batch_{batch}").mkdir(parents=True)
    for name in names:
        (root / name).write_bytes(buffer.getvalue())
    owner = rng.choice(np.flatnonzero(np.arange(images) % 7 != 0), boxes)
    xywh = np.column_stack(
        [rng.uniform(0, 500, boxes), rng.uniform(0, 350, boxes), rng.uniform(8, 130, (boxes, 2))]
    ).round(2)
    over = np.arange(boxes) % 10 == 0
    xywh[over, 0] = width - xywh[over, 2] / 2
    document = {
        "images": [{"id": i, "file_name": name, "width": width, "height": height} for i, name in enumerate(names)],
        "annotations": [
            {"id": i, "image_id": int(o), "category_id": 1 + i % 10, "bbox": box, "area": 1.0, "iscrowd": 0}
            for i, (o, box) in enumerate(zip(owner, xywh.tolist(), strict=True))
        ],
        "categories": [{"id": 1 + i, "name": f"kind-{i}"} for i in range(10)],
    }
    (root / "annotations.json").write_text(json.dumps(document), encoding="utf-8")
    return _Truth(images, images - len(np.unique(owner)), boxes)


def _bare_conversion(root: Path, target: Path) -> None:
    """Do the minimum of any converter: parse, and write one label file and one link per image."""
    document = json.loads((root / "annotations.json").read_bytes())
    target.mkdir()
    text = b"0 0.500000000000 0.500000000000 0.100000000000 0.100000000000\n" * 3
    source, sink = str(root), str(target)
    for number, image in enumerate(document["images"]):
        file = os.open(f"{sink}/{number}.txt", os.O_WRONLY | os.O_CREAT, 0o666)
        os.write(file, text)
        os.close(file)
        os.symlink(f"{source}/{image['file_name']}", f"{sink}/{number}.jpg")  # noqa: PTH211 - the fastest call


def _account(folder: Path, truth: _Truth) -> dict[str, int]:
    labels = list((folder / "labels").rglob("*.txt"))
    lines = [line for path in labels for line in path.read_text().splitlines()]
    coordinates = np.array([line.split()[1:] for line in lines], dtype=np.float64)
    low, high = coordinates[:, :2] - coordinates[:, 2:] / 2, coordinates[:, :2] + coordinates[:, 2:] / 2
    outside = int(((low < -1e-6) | (high > 1 + 1e-6)).any(axis=1).sum())
    return {
        "images": truth.images - sum(p.is_file() for p in (folder / "images").rglob("*.*")),
        "files of empty images": truth.images - len(labels),
        "boxes": truth.boxes - len(lines),
        "boxes not clipped": outside,
    }


# ---- validation


def measure_validation(folder: Path, shrink: int) -> list[Row]:
    """Measure validation with a full decode of every image, against a loop that only decodes.

    There are two kinds of images, because validation has a fixed overhead per image but decoding depends on content.
    """
    from benchmarks.validation import measure
    from visionops.data.validation.judging import validate

    paths, size = _write_photos(folder, 1200 // shrink)
    dataset = Dataset.from_columns(
        "benchmark",
        ["scratch"],
        {"key": [p.name for p in paths], "path": [str(p) for p in paths], "split": ["train"] * len(paths)},
        {},
    )
    policy = ValidationPolicy(min_instances=0)

    def decode(path: Path) -> None:
        with Image.open(path) as image:
            image.load()

    def bare() -> None:
        with concurrent.futures.ThreadPoolExecutor(cores()) as pool:
            for _ in pool.map(decode, paths):
                pass

    def read() -> None:
        for path in paths:
            path.read_bytes()

    best = _best({"read": read, "bare": bare, "ours": lambda: validate(dataset, policy)})
    ratio = best["bare"].wall / best["ours"].wall
    noisy = measure(3000 // shrink, 300 // shrink, _ROUNDS)
    return [
        Row("limit: read the bytes of rendered surfaces", size / best["read"].wall / 1e6, "MB/s"),
        Row("limit: bare Pillow decode, all cores", len(paths) / best["bare"].wall, "images/s"),
        Row("ours: validate", len(paths) / best["ours"].wall, "images/s"),
        Row("ours / bare decode, rendered surfaces", ratio, "x", ">= 0.9", ratio >= 0.9),
        Row("the same in CPU time", best["bare"].cpu / best["ours"].cpu, "x"),
        Row("limit: bare decode, noisy photos", noisy["bare"], "images/s"),
        Row("ours: validate", noisy["validate"], "images/s"),
        Row("ours / bare decode, noisy photos", r := noisy["validate_ratio"], "x", ">= 0.9", r >= 0.9),
    ]


def _write_photos(folder: Path, number: int) -> tuple[list[Path], int]:
    """JPEGs of 640 x 640, all different: rendered surfaces, rolled. Returns paths and bytes in all."""
    from visionops.data.sample.reliefs import Defect
    from visionops.data.sample.surfaces import render_surface

    source = SampleSource(kind="sample", size=640)
    surfaces = [render_surface(source, [seed], [*Defect]).image for seed in range(12)]
    paths = []
    for i in range(number):
        path = folder / f"{i:06d}.jpg"
        rolled = np.roll(surfaces[i % 12], (i // 12 * 37 % 640, i // 12 * 53 % 640), axis=(0, 1))
        Image.fromarray(np.ascontiguousarray(rolled)).save(path, quality=90)
        paths.append(path)
    return paths, sum(path.stat().st_size for path in paths)


# ---- hand-over


def measure_handover(folder: Path, shrink: int) -> list[Row]:
    """Measure passing a data set between steps: our materializer, ZenML's path materializer, and one number."""
    _isolate_zenml(folder)
    images = 1260 // shrink
    light = _write_images(folder / "light", images, 14_000)
    heavy = _write_images(folder / "heavy", images, 56_000)
    return [
        Row("bytes of the images", _bytes_below(folder / "light") / 1e6, "MB"),
        *_handover_alone(folder, light, heavy),
        *_handover_in_pipelines(folder, light, heavy),
        *count_sent_bytes(
            hash_images(light.replace_column("sha256", [""] * images)),
            _local_store(folder / "remote", is_local=False),
            folder / "sent",
        ),
    ]


def _isolate_zenml(folder: Path) -> None:
    os.environ.update(
        ZENML_CONFIG_PATH=str(folder / "zenml"),
        ZENML_LOCAL_STORES_PATH=str(folder / "stores"),
        ZENML_ANALYTICS_OPT_IN="false",
        ZENML_LOGGING_VERBOSITY="ERROR",
        ZENML_DISABLE_STEP_LOGS_STORAGE="true",
        AUTO_OPEN_DASHBOARD="false",
    )


def _write_images(folder: Path, number: int, size: int) -> Dataset:
    """Write files of random bytes, which are never decoded here, and return a data set that refers to them."""
    folder.mkdir()
    rng = np.random.default_rng(size)
    for i in range(number):
        (folder / f"{i:06d}.jpg").write_bytes(rng.bytes(size - 2) + b"\xff\xd9")  # ends like a complete JPEG
    boxes = 3 * number
    return Dataset.from_columns(
        folder.name,
        ["scratch"],
        {
            "key": [f"{i:06d}.jpg" for i in range(number)],
            "path": [str(folder / f"{i:06d}.jpg") for i in range(number)],
            "sha256": [rng.bytes(32).hex() for _ in range(number)],
            "num_bytes": [size] * number,
            "width": [200] * number,
            "height": [200] * number,
            "split": ["train"] * number,
            "plain": [True] * number,
        },
        {
            "image": np.arange(boxes) // 3,
            "class_id": [0] * boxes,
            "x1": rng.uniform(0, 100, boxes),
            "y1": rng.uniform(0, 100, boxes),
            "x2": rng.uniform(101, 200, boxes),
            "y2": rng.uniform(101, 200, boxes),
        },
    )


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _handover_alone(folder: Path, light: Dataset, heavy: Dataset) -> list[Row]:
    """Measure saving and loading without ZenML's bookkeeping."""
    from zenml.materializers import BuiltInMaterializer, PathMaterializer

    from materializers.converted import ConvertedMaterializer
    from materializers.dataset import DatasetMaterializer

    converted = conversions(light, folder / "conversions", _ROUNDS)
    store = _local_store(folder / "alone")

    def hand_over(kind: Any, value: Any) -> Callable[[], None]:
        def run() -> None:
            uri = folder / "alone" / uuid.uuid4().hex
            uri.mkdir(parents=True)
            materializer = kind(str(uri), artifact_store=store)
            materializer.save(value)
            loaded = kind(str(uri), artifact_store=store).load(type(value))
            if isinstance(loaded, Path):
                shutil.rmtree(loaded)

        return run

    def hand_over_converted(value: Any) -> None:
        hand_over(ConvertedMaterializer, value)()

    best = _best(
        {
            "no-op": hand_over(BuiltInMaterializer, 1),
            "ours": hand_over(DatasetMaterializer, light),
            "ours, heavy": hand_over(DatasetMaterializer, heavy),
            "theirs": hand_over(PathMaterializer, folder / "light"),
            "theirs, heavy": hand_over(PathMaterializer, folder / "heavy"),
            "converted": functools.partial(_next_handover, hand_over_converted, converted),
        }
    )
    return [
        Row("save + load: one number", best["no-op"].wall * 1e3, "ms"),
        Row("save + load: ours", best["ours"].wall * 1e3, "ms"),
        Row("save + load: ours, 4 x the bytes", best["ours, heavy"].wall * 1e3, "ms"),
        Row("save + load: ours, converted", best["converted"].wall * 1e3, "ms"),
        Row("save + load: ZenML's path", best["theirs"].wall * 1e3, "ms"),
        Row("save + load: ZenML's path, 4 x the bytes", best["theirs, heavy"].wall * 1e3, "ms"),
    ]


def _local_store(folder: Path, *, is_local: bool = True) -> Any:
    from zenml.artifact_stores.local_artifact_store import LocalArtifactStore, LocalArtifactStoreConfig
    from zenml.enums import StackComponentType

    class _Config(LocalArtifactStoreConfig):
        @property
        def is_local(self) -> bool:
            return is_local

    folder.mkdir(parents=True)
    now = datetime.now(UTC)
    return LocalArtifactStore(
        name="benchmark",
        id=uuid.uuid4(),
        config=_Config(path=str(folder)),
        flavor="local",
        type=StackComponentType.ARTIFACT_STORE,
        user=None,
        created=now,
        updated=now,
    )


def _handover_in_pipelines(folder: Path, light: Dataset, heavy: Dataset) -> list[Row]:
    """Measure a pipeline of two steps on the local orchestrator, in a separate ZenML home."""
    from zenml.utils import source_utils

    # By default ZenML uses the script's folder as root and would import the steps again by another name.
    source_utils.set_custom_source_root(str(Path(__file__).resolve().parents[1]))
    from benchmarks.handover_pipeline import run_handover

    values: dict[str, int | Dataset | Path] = {
        "no-op": 1,
        "ours": light,
        "ours, heavy": heavy,
        "theirs": folder / "light",
        "no-op again": 1,
    }
    converted = {
        "converted": conversions(light, folder / "runs", _PIPELINE_ROUNDS),
        "converted, heavy": conversions(heavy, folder / "runs", _PIPELINE_ROUNDS),
    }
    with _quiet():
        run_handover(1)  # the first run of a process sets ZenML up
        runs: dict[str, Callable[[], Any]] = {n: functools.partial(run_handover, value) for n, value in values.items()}
        runs |= {name: functools.partial(_next_handover, run_handover, made) for name, made in converted.items()}
        best = _best(runs, _PIPELINE_ROUNDS)
    over = (best["ours"].wall - best["no-op"].wall) * 1e3
    grown = (best["ours, heavy"].wall - best["ours"].wall) * 1e3
    more = (best["converted"].wall - best["no-op"].wall) * 1e3
    more_grown = (best["converted, heavy"].wall - best["converted"].wall) * 1e3
    return [
        Row("two steps: one number", best["no-op"].wall * 1e3, "ms"),
        Row("two steps: ours", best["ours"].wall * 1e3, "ms"),
        Row("two steps: ours, 4 x the bytes", best["ours, heavy"].wall * 1e3, "ms"),
        Row("two steps: ZenML's path", best["theirs"].wall * 1e3, "ms"),
        Row("noise: one number against itself", abs(best["no-op again"].wall - best["no-op"].wall) * 1e3, "ms"),
        Row("ours over one number", over, "ms", "<= 50", over <= 50),
        Row("the same in CPU time", (best["ours"].cpu - best["no-op"].cpu) * 1e3, "ms"),
        Row("ours, growth with 4 x the bytes", grown, "ms", "<= 50", grown <= 50),
        Row("ours, converted, over one number", more, "ms", "<= 50", more <= 50),
        Row("the same in CPU time", (best["converted"].cpu - best["no-op"].cpu) * 1e3, "ms"),
        Row("ours, converted, growth with 4 x the bytes", more_grown, "ms", "<= 50", more_grown <= 50),
        Row("ZenML's path over one number", (best["theirs"].wall - best["no-op"].wall) * 1e3, "ms"),
    ]


def _next_handover(run: Callable[[Any], None], made: Iterator[Any]) -> None:
    run(next(made))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    sink = io.StringIO()
    with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        yield


_PARTS: dict[str, Callable[[Path, int], list[Row]]] = {
    "conversion": measure_conversion,
    "validation": measure_validation,
    "handover": measure_handover,
}

if __name__ == "__main__":
    sys.exit(main())
