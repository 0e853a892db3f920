"""A data set as a trainer reads it: made once, and shared by every training that differs in other settings.

    folder/    what the task's `TaskSpec.convert` wrote: labels in the trainer's format, links to images, features

The tables come with it, so that classes, splits and labels are those of the prepared data set.
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
"""Called with what is done, how much there is, and a note of what it is."""


@dataclasses.dataclass(frozen=True)
class ConvertedDataset:
    """A data set in the form that its task's trainer reads."""

    dataset: Dataset
    """All tables; ``path`` is set for the images that training opens one by one, and "" for all others."""
    plan: ConversionPlan
    folder: Path
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What the task wrote down for its training, as JSON has it."""

    def moved(self, folder: Path) -> ConvertedDataset:
        """Return the same with its files in ``folder``, and no file touched."""
        before = f"{self.folder}/"
        paths = [
            f"{folder}/{path.removeprefix(before)}" if path.startswith(before) else path
            for path in self.dataset.column("path")
        ]
        return dataclasses.replace(self, dataset=self.dataset.replace_column("path", paths), folder=folder)

    def fingerprint(self) -> str:
        """Return what its training depends on, wherever files lie: SHA-256, lower-case hex."""
        told = [self.dataset.fingerprint(), self.plan.model_dump(mode="json"), dict(self.facts)]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def link_splits(dataset: Dataset, plan: ConversionPlan, folder: Path) -> ConvertedDataset:
    """Return a data set whose images of train and val are links below ``folder / "images"``."""
    return ConvertedDataset(link_images(dataset, folder / "images", Split.TRAIN, Split.VAL), plan, folder)


def require_converted_for(converted: ConvertedDataset, plan: TrainingPlan) -> None:
    """See that a data set was converted by what ``plan`` says.

    Raises:
        TrainingError: It was not.
    """
    if converted.plan != plan.conversion:
        raise TrainingError(f"{converted.folder}: is converted for other settings; run again with --no-cache")
