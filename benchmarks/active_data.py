"""Data sets for `benchmarks.active_learning`: features of a frozen backbone, and the class of each image."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt

from visionops.config import Config, load_config
from visionops.data.cleaning import clean
from visionops.data.dataset import Dataset, Split
from visionops.data.formats import read_dataset
from visionops.data.hashing import hash_images
from visionops.data.settings import DataConfig, FolderSource, Format
from visionops.data.splitting.assignment import assign_splits
from visionops.data.validation.judging import validate
from visionops.tasks.classification.backbones import build_backbone
from visionops.tasks.classification.conversion import preprocessing_for
from visionops.tasks.classification.features import FeatureStore
from visionops.tasks.classification.settings import LabelTraining, Learning, Views
from visionops.tasks.spec import task_for

__all__ = ["OWN_SPLIT", "TUNED_ON", "USE_CASES", "Images", "Rows", "read_images"]

USE_CASES = ("plants", "casting", "steel")
"""What is reported."""
OWN_SPLIT = "casting-own"
"""Castings cut as the folders say, which leaves 48 images to label: `casting` deals all images anew with each seed."""
TUNED_ON = ("solar", "tiles")
"""To look at weights without looking at what is reported."""
_BACKBONE = "efficientnet_lite0"
_MOST = 900
"""Images of each of these."""

Features = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Rows:
    """One cut of the data, as rows of `Images`."""

    pool: Ids
    """Images that can be labelled: the train split."""
    val: Ids
    """Whose embeddings are the bundle's reference."""
    test: Ids
    """Images to measure on: test and val, since val chooses nothing here. Test alone has 56 images of plants."""


@dataclasses.dataclass(frozen=True)
class Images:
    """A data set, clean, with what a frozen backbone makes of it."""

    name: str
    class_names: tuple[str, ...]
    features: Features
    """float32 (N, views, D): an image as it is, then the views of it that the use case trains on."""
    classes: Ids
    """int64 (N,): the class of each image; of steel that of most of its boxes."""
    dataset: Dataset
    config: Config

    def cut(self, seed: int) -> Rows:
        """Return the splits that the pipeline makes with this seed: what the data set splits itself stays as it is.

        Castings are the exception: their folders leave 48 images to label and one test split for all seeds, so all
        images are dealt anew. Cleaning has left each of the 27 that stand in both folders once.
        """
        settings, dataset = self.config.data.split.model_copy(update={"seed": seed}), self.dataset
        if self.name == "casting":
            settings = settings.model_copy(update={"val": 0.2, "test": 0.3})  # half to label, half to measure on
            dataset = dataset.replace_column("split", [""] * dataset.num_images)
        split = assign_splits(dataset, settings)
        places = {key: row for row, key in enumerate(self.dataset.column("key"))}
        found = (split.select_split(one).column("key") for one in (Split.TRAIN, Split.VAL, Split.TEST))
        train, val, test = (np.array([places[key] for key in keys], dtype=np.int64) for keys in found)
        return Rows(train, val, np.concatenate([val, test]))


def read_images(name: str, data: Path, kept: Path) -> Images:
    """Read and clean a data set as the pipeline does, and compute its features unless they are in ``kept``."""
    config, folder = _config(name, data, kept)
    dataset = read_dataset(folder.absolute(), config.data, name, task_for(config.task).fit_dataset)
    dataset = hash_images(dataset.take_evenly(_MOST) if name in TUNED_ON else dataset)
    dataset = clean(dataset, validate(dataset, config.validation))
    dataset = dataset.take(np.flatnonzero(np.array(dataset.column("split")) != Split.UNLABELLED.value))
    classes, names = _classes(dataset)
    dataset = dataset.take(np.flatnonzero(classes >= 0))
    classes = classes[classes >= 0]
    path = kept / f"{config.name}-views.npz"
    if path.exists():
        with np.load(path) as found:
            by_digest = dict(zip(found["digests"].tolist(), found["features"], strict=True))
    else:
        by_digest = dict(zip(dataset.column("sha256"), _features(dataset, config), strict=True))
        kept.mkdir(parents=True, exist_ok=True)
        np.savez(path, digests=np.array(list(by_digest)), features=np.stack(list(by_digest.values())))
    features = np.stack([by_digest[digest] for digest in dataset.column("sha256")])
    return Images(name, names, features, classes, dataset, config)


def _config(name: str, data: Path, kept: Path) -> tuple[Config, Path]:
    if name == "solar":
        package = importlib.util.find_spec("elpv_dataset")
        assert package is not None
        assert package.origin
        return load_config(Path("configs", "solar.yaml")), Path(package.origin).parent / "data"
    if name == "tiles":
        folder = _photographs(data / "tiles", kept / "tiles")
        source = DataConfig(source=FolderSource(kind="folder", path=folder), format=Format.FOLDERS)
        return Config(name="tiles", task="classification", data=source), folder
    name = "casting" if name == OWN_SPLIT else name
    return load_config(Path("configs", f"{name}.yaml")), data / ("vision" if name == "steel" else name)


def _photographs(folder: Path, links: Path) -> Path:
    """Return a folder of links to the photographs alone: beside each defect stands its mask."""
    for path in sorted(folder.glob("*/*.jpg")):
        link = links / path.parent.name / path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(path.resolve())
    return links


def _classes(dataset: Dataset) -> tuple[Ids, tuple[str, ...]]:
    """Return the class of each image, -1 where there is none, and the names of all classes."""
    if dataset.attributes:
        return dataset.label_array()[:, 0].astype(np.int64), dataset.attributes[0].class_names
    found = [boxes.class_ids for boxes in dataset.boxes_by_image()]
    return np.array([np.bincount(ids).argmax() if len(ids) else -1 for ids in found]), dataset.class_names


def _features(dataset: Dataset, config: Config) -> Features:
    # As the use case trains: more views of an image make a head of few images less noisy, in whatever order they come.
    views = config.training.views if isinstance(config.training, LabelTraining) else Views.NONE
    training = LabelTraining(task="classification", model=_BACKBONE, learning=Learning.FROZEN)
    spec = preprocessing_for(training, dataset)
    store = FeatureStore(build_backbone(training, spec.width), training.model, spec, "cpu", keep=False)
    return store.features(dataset, views, workers=2)
