"""What a search came to."""

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
    """One set of settings that was tried."""

    model_config = ConfigDict(frozen=True)

    number: int
    """In the study; those that were cut short and tried again are left out."""
    state: TrialState
    settings: dict[str, Setting]
    """Dotted key under ``training`` to what was tried for it."""
    value: float | None = None
    """The metric on the val split; None unless complete."""
    curve: dict[int, float] = Field(default_factory=dict)
    """Epoch to the metric on the val split."""
    seconds: float = 0.0
    is_default: bool = False
    """The settings of the use case, unchanged."""
    note: str = ""
    """Why it failed."""


class TuningResult(BaseModel):
    """The trials of a search and the best of them."""

    model_config = ConfigDict(frozen=True)

    folder: Path = Field(default=Path(), exclude=True)
    """With ``tuning.json`` (this object), ``report.html`` and the pictures."""
    use_case: str
    study: str
    """Its name in the storage."""
    metric: str
    # Left out of the file where it is not so: results from before there were such metrics are read and written alike.
    minimises: bool = Field(default=False, exclude_if=lambda minimises: not minimises)
    """Less of the metric is better."""
    settings: dict[str, Setting]
    """The best ones, to be merged into ``training``; {} where nothing beats the settings of the use case."""
    best: int
    """Number of the best trial."""
    value: float
    """Of the best trial, on the val split."""
    default_value: float | None = None
    """Of the use case's own settings; None where they were not tried (a grid without them) or failed."""
    importance: dict[str, float] = Field(default_factory=dict)
    """Setting to its share in what makes the metric vary over the trials (fANOVA), largest first; {} where the trials
    are too few or too alike to say."""
    trials: tuple[Trial, ...]

    @property
    def best_trial(self) -> Trial:
        """The one that `settings` come from."""
        return next(trial for trial in self.trials if trial.number == self.best)

    @property
    def gain(self) -> float | None:
        """By how much the best trial is better than the unchanged settings; None where these have no value."""
        if self.default_value is None:
            return None
        return self.default_value - self.value if self.minimises else self.value - self.default_value

    def counts(self) -> dict[str, int]:
        """Trials by state, every state named."""
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
