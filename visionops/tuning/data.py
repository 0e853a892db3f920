"""Share converted data sets among the trials of a search."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

from visionops.data.dataset import Dataset
from visionops.tasks.conversion import convert
from visionops.tasks.converted import ConvertedDataset
from visionops.tasks.settings import TrainingPlan

__all__ = ["SearchData"]


@dataclasses.dataclass(frozen=True)
class SearchData:
    """Data that a search trains on."""

    converted: ConvertedDataset
    """Data converted with the settings of the use case, for every trial that does not change the conversion."""
    prepared: Callable[[], Dataset]
    """Function that returns the source data, with the images of train and val on this machine."""

    @property
    def dataset(self) -> Dataset:
        """Return the tables."""
        return self.converted.dataset

    def converted_for(self, plan: TrainingPlan, folder: Path) -> ConvertedDataset:
        """Return the data set converted for ``plan``, converted once for all trials that can share it.

        Args:
            folder: Folder for data converted with other settings than the use case's.

        Raises:
            DataError: See `visionops.tasks.conversion.convert`, also for the other errors.
            TrainingError: The data cannot be converted.
        """
        wanted = plan.conversion
        if wanted == self.converted.plan:
            return self.converted
        target = folder / hashlib.sha256(wanted.model_dump_json().encode()).hexdigest()[:16]
        known = self._made.get(target)
        if known is None:
            known = self._made[target] = convert(self.prepared(), wanted, target)
        return known

    _made: dict[Path, ConvertedDataset] = dataclasses.field(default_factory=dict, init=False, repr=False)
