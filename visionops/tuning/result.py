"""Result of a search."""

from __future__ import annotations

import enum
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from visionops.errors import DataError

__all__ = ["Setting", "Trial", "TrialState", "TuningResult"]

_JSON = "tuning.json"

Setting = str | int | float | bool | None


class TrialState(enum.StrEnum):
    """How a trial ended."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"


class Trial(BaseModel):
    """A set of settings that was tried."""

    model_config = ConfigDict(frozen=True)

    number: int
    """Number in the study; interrupted trials that were repeated are left out."""
    state: TrialState
    settings: dict[str, Setting]
    """Tried values, by dotted key under ``training``."""
    value: float | None = None
    """Metric on the val split; None unless complete."""
    curve: dict[int, float] = Field(default_factory=dict)
    """Metric on the val split, by epoch."""
    seconds: float = 0.0
    is_default: bool = False
    """Whether these are the unchanged settings of the use case."""
    note: str = ""
    """Reason of the failure."""


class TuningResult(BaseModel):
    """The trials of a search and the best of them."""

    model_config = ConfigDict(frozen=True)

    folder: Path = Field(default=Path(), exclude=True)
    """Folder with ``tuning.json`` (this object), ``report.html`` and the pictures."""
    use_case: str
    study: str
    """Name of the study in the storage."""
    metric: str
    # Left out of the file when False, so that results from before this field are read and written unchanged.
    minimises: bool = Field(default=False, exclude_if=lambda minimises: not minimises)
    """Whether lower values of the metric are better."""
    settings: dict[str, Setting]
    """Best settings, to be merged into ``training``; {} where nothing beats the settings of the use case."""
    best: int
    """Number of the best trial."""
    value: float
    """Metric of the best trial on the val split."""
    default_value: float | None = None
    """Metric of the use case's own settings; None where they were not tried (a grid without them) or failed."""
    importance: dict[str, float] = Field(default_factory=dict)
    """Importance of each setting for the variation of the metric over the trials (fANOVA), largest first; {} where the
    trials are too few or too alike."""
    trials: tuple[Trial, ...]

    @property
    def best_trial(self) -> Trial:
        """Return the trial that `settings` comes from."""
        return next(trial for trial in self.trials if trial.number == self.best)

    @property
    def gain(self) -> float | None:
        """Return the improvement of the best trial over the unchanged settings; None where these have no value."""
        if self.default_value is None:
            return None
        return self.default_value - self.value if self.minimises else self.value - self.default_value

    def counts(self) -> dict[str, int]:
        """Return the number of trials by state, including every state."""
        found = Counter(trial.state.value for trial in self.trials)
        return {state.value: found[state.value] for state in TrialState}

    def save(self, folder: Path) -> None:
        """Write ``tuning.json``."""
        (folder / _JSON).write_text(self.model_dump_json(indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> TuningResult:
        """Read what `save` wrote.

        Raises:
            DataError: The folder has no usable ``tuning.json``.
        """
        try:
            found = cls.model_validate_json((folder / _JSON).read_text(encoding="utf-8"))
        except (OSError, ValidationError) as error:
            cause: Any = error.strerror if isinstance(error, OSError) else error.errors()[0]["msg"]
            raise DataError(f"{folder / _JSON}: not a saved tuning result ({cause}); run the tuning again") from error
        return found.model_copy(update={"folder": folder})
