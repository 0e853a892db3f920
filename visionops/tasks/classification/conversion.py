"""Convert a data set for a classifier: features of a frozen backbone, and links to images that training opens.

folder/
├── images/{train,val}    links; for `frozen` learning only val, on which the bundle is evaluated
└── features/             not for learning from scratch
    ├── train.npy         float32 (images, views, width), in the order of the split's rows
    └── val.npy           float32 (images, 1, width)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from visionops.data.dataset import Dataset, Split
from visionops.data.hashing import hash_images
from visionops.data.layout import link_images
from visionops.errors import DataError, TrainingError
from visionops.inference.preprocessing_spec import PreprocessingSpec
from visionops.tasks.classification.backbones import Backbone, build_backbone, check_backbone, preprocessing_of
from visionops.tasks.classification.device import torch_device
from visionops.tasks.classification.pixels import require_paths
from visionops.tasks.classification.settings import LabelTraining, Learning, Views
from visionops.tasks.conversion_plan import ConversionPlan
from visionops.tasks.converted import ConvertedDataset, Progress
from visionops.tasks.workfolder import require_splits

__all__ = ["convert_labels", "preprocessing_for", "read_features"]

_FEATURES = "features"

Features = npt.NDArray[np.float32]


def convert_labels(dataset: Dataset, plan: ConversionPlan, folder: Path, progress: Progress) -> ConvertedDataset:
    """Compute the features on which the heads are solved, if any, and link the images that training reads.

    Raises:
        TrainingError: The backbone is unknown, its weights or the device are missing, or a split is empty.
        DataError: An image is missing, or cannot be read.
    """
    training = plan.training
    assert isinstance(training, LabelTraining)
    require_splits(dataset)
    require_paths(dataset.select_split(Split.TRAIN, Split.VAL))
    dataset, facts = hash_images(dataset), {}
    if training.learning is not Learning.SCRATCH:
        facts = _write_features(dataset, training, folder / _FEATURES, progress)
    read = (Split.VAL,) if training.learning is Learning.FROZEN else (Split.TRAIN, Split.VAL)
    return ConvertedDataset(link_images(dataset, folder / "images", *read), plan, folder, facts)


def preprocessing_for(training: LabelTraining, dataset: Dataset) -> PreprocessingSpec:
    """Return the preprocessing between an image of ``dataset`` and the backbone."""
    return preprocessing_of(training).model_copy(update={"white": dataset.white})


def _write_features(dataset: Dataset, training: LabelTraining, folder: Path, progress: Progress) -> dict[str, Any]:
    from visionops.tasks.classification.features import FeatureStore
    from visionops.tasks.classification.loop import seeded

    check_backbone(training.model)
    device = torch_device(training.device)
    spec = preprocessing_for(training, dataset)
    with seeded(training.seed):  # all weights are loaded, so the random initial ones are irrelevant
        backbone = build_backbone(training, spec.width)
    facts = _facts(backbone, training, spec)
    store = FeatureStore(backbone, training.model, spec, device)

    def report(split: Split) -> Callable[[int, int], None]:
        def tell(done: int, total: int) -> None:
            if done * 20 // total != (done - 1) * 20 // total:  # in twentieths
                progress(done, total, f"features of {split.value}")

        return tell

    folder.mkdir()
    for split, views in ((Split.TRAIN, training.views), (Split.VAL, Views.NONE)):
        part = dataset.select_split(split)
        found = store.features(part, views, workers=training.workers, progress=report(split))
        np.save(folder / f"{split.value}.npy", found)
    return facts


def _facts(backbone: Backbone, training: LabelTraining, spec: PreprocessingSpec) -> dict[str, Any]:
    from visionops.tasks.classification.features import weights_digest

    return {
        "model": training.model,
        "weights": weights_digest(backbone.module),
        "preprocessing": spec.model_dump(mode="json"),
    }


def read_features(
    converted: ConvertedDataset, backbone: Backbone, training: LabelTraining, spec: PreprocessingSpec
) -> tuple[Features, Features]:
    """Return the features of train, float32 (images, views, width), and of val, float32 (images, width).

    Raises:
        TrainingError: They belong to another backbone or preprocessing.
        DataError: They are missing.
    """
    if converted.facts != _facts(backbone, training, spec):
        raise TrainingError(
            f"{converted.folder}: holds features of other weights or another preprocessing than {training.model} has "
            "now; run again with --no-cache"
        )
    try:
        train, val = (np.load(converted.folder / _FEATURES / f"{s.value}.npy") for s in (Split.TRAIN, Split.VAL))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{converted.folder}: its features cannot be read ({error}); run again with --no-cache"
        ) from error
    return train, val[:, 0]
