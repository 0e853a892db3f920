"""Draw windows of real images for drift detection, unchanged and with changes of several kinds and severities.

Each image is changed and predicted once per kind and severity; all windows of all seeds are drawn from these
records.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.drift_peer import PIXEL_FEATURES, pixel_features
from benchmarks.rows import cores
from visionops.config import Config
from visionops.data.cleaning import clean
from visionops.data.dataset import Dataset, Split
from visionops.data.files import walk_files
from visionops.data.formats import read_dataset
from visionops.data.hashing import hash_images
from visionops.data.settings import FolderSource
from visionops.data.splitting.assignment import assign_splits
from visionops.data.validation.judging import validate
from visionops.inference.bundle import ModelBundle
from visionops.inference.image import decode_image
from visionops.inference.predictor import Load, Predictor
from visionops.monitoring.features import describe_image
from visionops.monitoring.record import RECORD, record_of
from visionops.monitoring.simulate import Kind, modify
from visionops.tasks.spec import task_for

__all__ = ["CLEAN", "Group", "Scenes", "draw_groups", "load_data"]

_Rows = npt.NDArray[np.int64]

CLEAN = "clean"
"""Prefix of the kinds without a change."""


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """Change of the images of a window."""

    kind: str
    label: str
    how: Kind
    severity: float
    is_target: bool = False
    """Whether it must be detected."""


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Windows of one kind and severity, each paired with its reference."""

    kind: str
    label: str
    pairs: Sequence[tuple[pa.Table, pa.Table]]
    is_target: bool = False


CHANGES = (
    *(
        Change("darker", f"x{f:g}", Kind.BRIGHTNESS, -math.log2(f), f == 0.5)
        for f in (0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5)
    ),
    *(
        Change("brighter", f"x{f:g}", Kind.BRIGHTNESS, -math.log2(f), f == 2)
        for f in (1.05, 1.1, 1.15, 1.2, 1.25, 1.3, 1.5, 2)
    ),
    *(Change("blur, pixels", f"{r:g}", Kind.BLUR, r / 3, r == 3) for r in (0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 1, 3)),
    *(Change("noise, levels", f"{n:g}", Kind.NOISE, n / 25, n == 25) for n in (0.5, 1, 1.5, 2, 3, 5, 10, 25)),
)
"""Changes of `modify` from weak to strong, in its units."""
CLASS_SHARES = (0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7)
"""Shares of a window; in the test images each class has a share of one sixth, and 0.16 to 0.23 of them show it."""
CAMERA_SHARES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.5, 1.0)
_CAMERA_IMAGES = 200


def load_data(config: Config) -> Dataset:
    """Return the data set as the pipeline reads, cleans and splits it."""
    assert isinstance(config.data.source, FolderSource)
    dataset = hash_images(
        read_dataset(config.data.source.path.absolute(), config.data, config.name, task_for(config.task).fit_dataset)
    )
    return assign_splits(clean(dataset, validate(dataset, config.validation)), config.data.split)


class Scenes:
    """Records of one bundle's answers, with our features and the peer's pixel features.

    Args:
        data: Folder with the images of other cameras.
        show_progress: Function that receives a description of the current predictions.
    """

    def __init__(self, bundle: ModelBundle, dataset: Dataset, data: Path, show_progress: Callable[[str], None]) -> None:
        self._predictor = Predictor(bundle, streams=cores(), load=Load(images=1))
        self._data = data
        self._show_progress = show_progress
        self._done: dict[tuple[str, str], pa.Table] = {}
        test = dataset.select_split(Split.TEST)
        self._paths = test.paths()
        self.shows = test.presence()
        """bool (test images, classes): whether an image shows a class."""
        self.is_of = _main_class(test)
        """bool (test images, classes): whether most boxes of an image have a class."""
        self.reference = self._predict("val", "", dataset.select_split(Split.VAL).paths())

    def test(self, change: Change | None = None) -> pa.Table:
        """Return the records of the test split."""
        kind, label = (change.kind, change.label) if change else ("test", "")
        return self._predict(kind, label, self._paths, change)

    def camera(self, name: str) -> pa.Table:
        """Return the records of another data set's images."""
        files = sorted(self._data / name / file.name for file in walk_files(self._data / name) if file.is_image)
        chosen = np.sort(np.random.default_rng(0).permutation(len(files))[:_CAMERA_IMAGES])
        return self._predict(name, "", [files[i] for i in chosen])

    def _predict(self, kind: str, label: str, paths: Sequence[Path], change: Change | None = None) -> pa.Table:
        if (kind, label) not in self._done:
            self._show_progress(f"predicting: {kind} {label}")
            with ThreadPoolExecutor(cores()) as pool:
                rows = list(pool.map(self._record, itertools.count(), paths, itertools.repeat(change)))
            ours = [field for field in RECORD if field.name in rows[0]]
            schema = pa.schema([*ours, *((name, pa.float64()) for name in PIXEL_FEATURES)])
            self._done[kind, label] = pa.Table.from_pylist(rows, schema=schema)
        return self._done[kind, label]

    def _record(self, number: int, path: Path, change: Change | None) -> dict[str, Any]:
        rgb = decode_image(path.read_bytes(), where=str(path))
        if change:
            rgb = modify(rgb, change.how, change.severity, np.random.default_rng(number))
        answer = self._predictor.predict(rgb, where=str(path))
        return record_of(answer, *describe_image(rgb)) | pixel_features(rgb)


def draw_groups(scenes: Scenes, windows: int, size: int, shuffles: int, seed: int) -> Iterator[Group]:
    """Yield all kinds, those without a change first, each from weak to strong.

    Args:
        windows: Windows per kind and severity; all image changes use the same ones.
        size: Images per window; the whole test split if it has fewer.
        shuffles: Windows of val and test mixed.
    """
    rng = np.random.default_rng(seed)
    reference, test = scenes.reference, scenes.test()
    size = min(size, len(test))
    drawn = [rng.permutation(len(test))[:size] for _ in range(windows)]

    def group(kind: str, label: str, tables: Sequence[pa.Table], *, is_target: bool = False) -> Group:
        return Group(kind, label, [(reference, table) for table in tables], is_target)

    yield group(CLEAN, "", [test.take(rows) for rows in drawn], is_target=True)
    both = pa.concat_tables([reference, test])
    deals = [rng.permutation(len(both)) for _ in range(shuffles)]
    halves = [(both.take(deal[: len(reference)]), both.take(deal[len(reference) :][:size])) for deal in deals]
    yield Group(f"{CLEAN}, shuffled", "", halves)
    fewest = int(scenes.is_of.sum(axis=0).min())
    few = [np.isin(np.arange(len(test)), rng.permutation(len(test))[:fewest]) for _ in drawn]
    yield group(f"{CLEAN}, repeated", "", [test.take(_draw_share(chosen, 0.5, size, rng)) for chosen in few])

    for change in CHANGES:
        records = scenes.test(change)
        yield group(change.kind, change.label, [records.take(rows) for rows in drawn], is_target=change.is_target)
    for kind, presence in (("class share", scenes.is_of), ("class shown", scenes.shows)):
        for share in CLASS_SHARES:
            shown = [presence[:, number % presence.shape[1]] for number in range(windows)]
            tables = [test.take(_draw_share(images, share, size, rng)) for images in shown]
            yield group(kind, f"{share:g}", tables, is_target=kind == "class share" and share == 0.5)
    for name in ("casting", "plants"):
        foreign = scenes.camera(name)
        for share in CAMERA_SHARES:
            number = round(share * size)
            chosen = [foreign.take(rng.permutation(len(foreign))[:number]) for _ in drawn]
            tables = [pa.concat_tables([test.take(r[number:]), c]) for r, c in zip(drawn, chosen, strict=True)]
            yield group(f"{name}, part", f"{share:g}", tables, is_target=share == 1)


def _main_class(dataset: Dataset) -> npt.NDArray[np.bool_]:
    image, class_id, _ = dataset.box_arrays()
    boxes = np.zeros((dataset.num_images, len(dataset.all_class_names)), np.int64)
    np.add.at(boxes, (image, class_id), 1)
    is_main: npt.NDArray[np.bool_] = np.arange(boxes.shape[1]) == boxes.argmax(axis=1)[:, None]
    return (boxes > 0) & is_main


def _draw_share(shown: npt.NDArray[np.bool_], share: float, size: int, rng: np.random.Generator) -> _Rows:
    """Return rows of a window with a ``share`` of images from ``shown``, repeated if there are too few."""
    ours, others = np.flatnonzero(shown), np.flatnonzero(~shown)
    wanted = round(share * size)
    chosen = rng.choice(ours, wanted, replace=wanted > len(ours))
    return np.concatenate([chosen, rng.choice(others, size - wanted, replace=size - wanted > len(others))])
