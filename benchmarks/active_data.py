"""Read data sets for `benchmarks.active_learning`: features of a frozen backbone, and the class of each image."""

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
"""Reported data sets."""
OWN_SPLIT = "casting-own"
"""Castings in the split of their folders, which leaves 48 images to label; `casting` splits all images by the seed."""
TUNED_ON = ("solar", "tiles")
"""Data sets for choosing weights, separate from the reported ones."""
_BACKBONE = "efficientnet_lite0"
_MOST = 900
"""Maximum number of images of each of these."""

Features = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Rows:
    """One split of the data, as rows of `Images`."""

    pool: Ids
    """Images to label: the train split."""
    val: Ids
    """Images whose embeddings are the bundle's reference."""
    test: Ids
    """Images for the metric: test and val, as val chooses nothing here. Test alone has 56 images of plants."""


@dataclasses.dataclass(frozen=True)
class Images:
    """A cleaned data set with the features of a frozen backbone."""

    name: str
    class_names: tuple[str, ...]
    features: Features
    """float32 (N, views, D): the unchanged image, then the views that the use case trains on."""
    classes: Ids
    """int64 (N,): class of each image; for steel the class of most of its boxes."""
    dataset: Dataset
    config: Config

    def cut(self, seed: int) -> Rows:
        """Return the pipeline's splits with this seed; splits of the data set itself are kept.

        Castings are an exception: their folders leave 48 images to label and one test split for all seeds, so all
        images are split again. Cleaning keeps one copy of each of the 27 images that are in both folders.
        """
        settings, dataset = self.config.data.split.model_copy(update={"seed": seed}), self.dataset
        if self.name == "casting":
            settings = settings.model_copy(update={"val": 0.2, "test": 0.3})  # half to label, half for the metric
            dataset = dataset.replace_column("split", [""] * dataset.num_images)
        split = assign_splits(dataset, settings)
        places = {key: row for row, key in enumerate(self.dataset.column("key"))}
        found = (split.select_split(one).column("key") for one in (Split.TRAIN, Split.VAL, Split.TEST))
        train, val, test = (np.array([places[key] for key in keys], dtype=np.int64) for keys in found)
        return Rows(train, val, np.concatenate([val, test]))


def read_images(name: str, data: Path, kept: Path) -> Images:
    """Read and clean a data set as the pipeline does, and compute its features unless ``kept`` has them."""
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
    """Return a folder of links to the photographs only, without the masks next to them."""
    for path in sorted(folder.glob("*/*.jpg")):
        link = links / path.parent.name / path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(path.resolve())
    return links


def _classes(dataset: Dataset) -> tuple[Ids, tuple[str, ...]]:
    """Return the class of each image, -1 for none, and the names of all classes."""
    if dataset.attributes:
        return dataset.label_array()[:, 0].astype(np.int64), dataset.attributes[0].class_names
    found = [boxes.class_ids for boxes in dataset.boxes_by_image()]
    return np.array([np.bincount(ids).argmax() if len(ids) else -1 for ids in found]), dataset.class_names


def _features(dataset: Dataset, config: Config) -> Features:
    # As in the use case's training: more views make a head from few images less noisy, in every order.
    views = config.training.views if isinstance(config.training, LabelTraining) else Views.NONE
    training = LabelTraining(task="classification", model=_BACKBONE, learning=Learning.FROZEN)
    spec = preprocessing_for(training, dataset)
    store = FeatureStore(build_backbone(training, spec.width), training.model, spec, "cpu", keep=False)
    return store.features(dataset, views, workers=2)
