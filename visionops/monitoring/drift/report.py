"""Drift between a reference and a window: the typed report, and its sentences."""

from __future__ import annotations

import enum
from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, computed_field, model_serializer

from visionops.inference.task import ENTROPY_PREFIX, PROBABILITY_PREFIX
from visionops.monitoring.drift.wording import format_number, title_of
from visionops.monitoring.record import COLUMN_PREFIX
from visionops.monitoring.settings import DriftSettings

__all__ = [
    "OTHER_SOURCES",
    "Baseline",
    "ColumnDrift",
    "ColumnKind",
    "DriftReport",
    "EvidentlySnapshot",
    "SourceDrift",
    "Verdict",
]

OTHER_SOURCES = "(other)"
"""Name for sources too rare to be judged separately, and for traffic without a source. No source has this name."""

_SMALL_SHIFT = 0.2
"""Cohen's d below which a drift is described as a change of spread or shape, not of the mean."""
_NEW = (PROBABILITY_PREFIX, ENTROPY_PREFIX, COLUMN_PREFIX, "source")
"""Prefixes of columns that an older reference does not have."""
_NAMED = 4
"""Number of columns that are named before "and N more"."""


class ColumnKind(enum.StrEnum):
    """Kind of a column's values."""

    NUMBER = "number"
    CLASS = "class"
    """Whether an image shows one class."""
    MIX = "mix"
    """Classes of all boxes."""
    EMBEDDING = "embedding"


class Verdict(enum.StrEnum):
    """Verdict on one column."""

    DRIFTED = "drifted"
    STABLE = "stable"
    TOO_FEW = "too few to say"


class Baseline(enum.StrEnum):
    """Baseline of a source's images."""

    OWN = "its own images in the reference"
    HISTORY = "its own earlier traffic"
    REFERENCE = "the whole reference"


class SourceDrift(BaseModel):
    """A source that is judged separately."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    reference_images: int
    current_images: int
    against: Baseline


class ColumnDrift(BaseModel):
    """Result for one column. Numbers are None where there were too few images."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """Name of the record's column; ``class:NAME`` for a class."""
    source: str = ""
    """Source whose images are compared; "" for those of all sources."""
    kind: ColumnKind
    verdict: Verdict
    reference_images: int
    """Number of images with a value in this column."""
    current_images: int
    test: str
    same_as: tuple[str, ...] = ()
    """Columns with the same information in both tables, judged once, as this one: the same numbers (red, green and blue
    of grey images), classes on the same images or on exactly the others (two values of an attribute), and the mix of
    such classes."""
    statistic: float | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    """p-value after Holm's correction over all columns."""
    effect: float | None = None
    """Effect size: D for a number (see `DriftSettings.min_gap`), Cohen's h for a class, total variation distance for
    the mix, MMD for embeddings."""
    min_effect: float
    """Least effect that matters."""
    threshold: float | None = None
    """With ``method: evidently``: threshold of ``statistic``; which side means drift depends on the test."""
    before: float | None = None
    """Mean of a number; share of the images that show a class."""
    after: float | None = None
    spread_before: float | None = None
    """Standard deviation of a number."""
    spread_after: float | None = None
    shift: float | None = None
    """Cohen's d of a number; None where it is constant in both tables."""
    bins: tuple[tuple[float, float], ...] = ()
    """For a number: shares of reference and current in equal bins from the smallest value of both to the largest."""

    @property
    def drifted(self) -> bool:
        """Return whether the verdict is drift."""
        return self.verdict is Verdict.DRIFTED

    @property
    def is_unknown(self) -> bool:
        """Return whether only the window has the column, as after an update; the next reference will have it."""
        return self.reference_images == 0 < self.current_images and self.name.startswith(_NEW)

    @property
    def title(self) -> str:
        """Return the column in words."""
        return title_of(self.name)

    @property
    def label(self) -> str:
        """Return the column in words, after its source where it has one."""
        return f"{self.source}: {self.title}" if self.source else self.title

    @property
    def outcome(self) -> str:
        """Return the verdict in words."""
        return "not compared: missing in the reference" if self.is_unknown else self.verdict.value

    @property
    def same_titles(self) -> str:
        """Return the columns of ``same_as`` in words."""
        return ", ".join(map(title_of, self.same_as))

    def explain(self) -> str:
        """Return the change as part of a sentence: ``brightness fell from 0.48 to 0.24 (d = 3.1)``."""
        return f"{self.source}: {self._change()}" if self.source else self._change()

    def _change(self) -> str:
        before, after, effect = self.before, self.after, format_number(abs(self.effect or 0.0))
        if self.effect is None:
            return f"{self.title}: {self.outcome}"
        if self.kind is ColumnKind.EMBEDDING:
            return f"embeddings moved (MMD {effect})"
        if before is None or after is None:
            return f"{self.title} moved (total variation distance {effect})"
        word = "rose" if after > before else "fell"
        if self.kind is ColumnKind.CLASS:
            return f"images with {self.title} {word} from {before:.0%} to {after:.0%} (h = {effect})"
        if self.shift is not None and abs(self.shift) < _SMALL_SHIFT:
            spread = f"from {format_number(self.spread_before)} to {format_number(self.spread_after)}"
            return f"{self.title} changed in shape, its spread {spread} (D = {effect})"
        size = "" if self.shift is None else f" (d = {format_number(abs(self.shift))})"
        return f"{self.title} {word} from {format_number(before)} to {format_number(after)}{size}"

    @model_serializer(mode="wrap")
    def _write(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        column: dict[str, Any] = write(self)
        if not self.source:
            column.pop("source", None)  # keep reports without sources unchanged
        return column


class EvidentlySnapshot(BaseModel):
    """A report in an Evidently workspace."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    workspace: str
    """Absolute path of a folder, or URL."""
    project: str
    """UUID of the use case's project."""
    id: str
    """UUID of the snapshot."""


class DriftReport(BaseModel):
    """Drift between the reference and a window."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    reference_images: int
    current_images: int
    columns: tuple[ColumnDrift, ...]
    """Columns in the order of the record, without those that have no value in either table."""
    settings: DriftSettings
    sources: tuple[SourceDrift, ...] = ()
    """Sources that were judged separately; empty where the traffic has no sources."""
    left_out: int = 0
    """Images of sources that are too rare to be judged."""
    snapshot: EvidentlySnapshot | None = None
    """Evidently's report on the same tables; None where it was not stored."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def drifted(self) -> bool:
        """Return whether any column drifted; by chance alone this happens in a share ``alpha`` of all windows."""
        return any(column.drifted for column in self.columns)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def share(self) -> float:
        """Return the share of compared columns that drifted, 0 to 1; 0 without any."""
        compared = [column for column in self.columns if column.verdict is not Verdict.TOO_FEW]
        return sum(column.drifted for column in compared) / len(compared) if compared else 0.0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def embedding_drifted(self) -> bool:
        """Return whether the embeddings drifted."""
        return any(column.drifted for column in self.columns if column.kind is ColumnKind.EMBEDDING)

    @property
    def drifted_columns(self) -> tuple[ColumnDrift, ...]:
        """Return the drifted columns, most certain first; ties by the larger effect."""
        found = [column for column in self.columns if column.drifted]
        return tuple(sorted(found, key=lambda c: (c.p_adjusted or 0.0, -abs(c.effect or 0.0) / (c.min_effect or 1.0))))

    def names(self, most: int = 3) -> str:
        """Return the names of the drifted columns, the clearest first; "" for none.

        Args:
            most: Number of columns named before "and N more".
        """
        found = self.drifted_columns
        more = f" and {len(found) - most} more" if len(found) > most else ""
        return ", ".join(column.label for column in found[:most]) + more

    def explain(self, most: int = 4) -> str:
        """Return one sentence with the drifted columns, the clearest first.

        Args:
            most: Number of columns named before "and N more".
        """
        compared = sum(column.verdict is not Verdict.TOO_FEW for column in self.columns)
        sizes = f"{self.current_images:,} images against {self.reference_images:,} of the reference"
        if self.sources:
            number = len(self.sources)
            sizes += f", {number} source{'s' if number > 1 else ''} apart"
        return self._verdict(compared, sizes, most) + self._not_compared()

    def _not_compared(self) -> str:
        unknown = list(dict.fromkeys(column.title for column in self.columns if column.is_unknown))
        text = ""
        if unknown:
            more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
            text += f" Not in the reference, so not compared: {', '.join(unknown[:_NAMED])}{more}; train again."
        if self.left_out:
            text += f" Not judged: {self.left_out:,} images of sources with fewer than {self.settings.min_images} each."
        return text

    def _verdict(self, compared: int, sizes: str, most: int) -> str:
        if not compared:
            return f"Too few to say: {sizes}; a column needs {self.settings.min_images} of each."
        if not self.drifted:
            return f"No drift: none of {compared} columns in {sizes}."
        found = self.drifted_columns
        text = "; ".join(column.explain() for column in found[:most])
        more = f"; and {len(found) - most} more" if len(found) > most else ""
        return f"Drift: {len(found)} of {compared} columns in {sizes}: {text}{more}."

    @property
    def drifted_sources(self) -> tuple[str, ...]:
        """Return the sources with a drifted column, by name."""
        return tuple(sorted({column.source for column in self.columns if column.drifted and column.source}))

    @model_serializer(mode="wrap")
    def _write(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        report: dict[str, Any] = write(self)
        if not self.sources:
            report.pop("sources", None)  # keep reports without sources unchanged
            report.pop("left_out", None)
        return report
