"""Data set in the form that a trainer reads, shared by all trainings that differ in other settings.

    folder/    output of the task's `TaskSpec.convert`: labels in the trainer's format, links to images, features

It includes the tables, so classes, splits and labels are those of the prepared data set.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionops.data.dataset import Dataset, Split
from visionops.data.layout import link_images
from visionops.errors import TrainingError
from visionops.tasks.conversion_plan import ConversionPlan

if TYPE_CHECKING:
    from visionops.tasks.settings import TrainingPlan

__all__ = ["ConvertedDataset", "Progress", "link_splits", "require_converted_for"]

Progress = Callable[[int, int, str], None]
"""Function called with the amount done, the total, and a note."""


@dataclasses.dataclass(frozen=True)
class ConvertedDataset:
    """A data set in the form that its task's trainer reads."""

    dataset: Dataset
    """All tables; ``path`` is set for the images that training opens one by one, and "" for all others."""
    plan: ConversionPlan
    folder: Path
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Facts that the task recorded for its training, as JSON values."""

    def moved(self, folder: Path) -> ConvertedDataset:
        """Return the same data set with its files in ``folder``, without moving files."""
        before = f"{self.folder}/"
        paths = [
            f"{folder}/{path.removeprefix(before)}" if path.startswith(before) else path
            for path in self.dataset.column("path")
        ]
        return dataclasses.replace(self, dataset=self.dataset.replace_column("path", paths), folder=folder)

    def fingerprint(self) -> str:
        """Return the digest of all data that its training depends on, whatever the paths: SHA-256, lower-case hex."""
        identity = [self.dataset.fingerprint(), self.plan.model_dump(mode="json"), dict(self.facts)]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def link_splits(dataset: Dataset, plan: ConversionPlan, folder: Path) -> ConvertedDataset:
    """Link the images of train and val below ``folder / "images"``; return the data set with these paths."""
    return ConvertedDataset(link_images(dataset, folder / "images", Split.TRAIN, Split.VAL), plan, folder)


def require_converted_for(converted: ConvertedDataset, plan: TrainingPlan) -> None:
    """Check that a data set was converted for ``plan``.

    Raises:
        TrainingError: It was converted for other settings.
    """
    if converted.plan != plan.conversion:
        raise TrainingError(f"{converted.folder}: was converted for other settings; run again with --no-cache")
