"""What drifted between a reference and a window: the typed report, and its sentences."""

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
    "Against",
    "ColumnDrift",
    "ColumnKind",
    "DriftReport",
    "EvidentlySnapshot",
    "SourceDrift",
    "Verdict",
]

OTHER_SOURCES = "(other)"
"""Stands for the sources that are too rare to be judged apart, and for traffic without one. No source has this name."""

_SMALL_SHIFT = 0.2
"""Cohen's d below which a drift is told as one of spread or shape, not of the mean."""
_NEW = (PROBABILITY_PREFIX, ENTROPY_PREFIX, COLUMN_PREFIX, "source")
"""Begin the columns that an older reference does not have."""
_NAMED = 4
"""Columns that are named before "and N more"."""


class ColumnKind(enum.StrEnum):
    """What a column holds."""

    NUMBER = "number"
    CLASS = "class"
    """Whether an image shows one class."""
    MIX = "mix"
    """The classes of all boxes."""
    EMBEDDING = "embedding"


class Verdict(enum.StrEnum):
    """Of one column."""

    DRIFTED = "drifted"
    STABLE = "stable"
    TOO_FEW = "too few to say"


class Against(enum.StrEnum):
    """What the images of a source are compared with."""

    OWN = "its own images in the reference"
    HISTORY = "its own earlier traffic"
    REFERENCE = "the whole reference"


class SourceDrift(BaseModel):
    """A source that is judged by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    reference_images: int
    current_images: int
    against: Against


class ColumnDrift(BaseModel):
    """What was found in one column. Numbers are None where there were too few images to say."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """Of the record's column; of a class ``class:NAME``."""
    source: str = ""
    """Whose images are compared; "" for those of all sources."""
    kind: ColumnKind
    verdict: Verdict
    reference_images: int
    """With a value in this column."""
    current_images: int
    test: str
    same_as: tuple[str, ...] = ()
    """Columns that carry the same information in both tables, judged once, as this: the same numbers (red, green and
    blue of grey images), classes on the same images or on exactly the others (two values of an attribute), and the mix
    of such classes."""
    statistic: float | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    """After Holm's correction over all columns."""
    effect: float | None = None
    """Of a number D (see `DriftSettings.min_gap`), of a class Cohen's h, of the mix total variation distance, of
    embeddings MMD."""
    min_effect: float
    """From which on it matters."""
    threshold: float | None = None
    """With ``method: evidently``: what ``statistic`` is compared with; which side is drift depends on the test."""
    before: float | None = None
    """Of a number its mean, of a class the share of images that show it."""
    after: float | None = None
    spread_before: float | None = None
    """Of a number: standard deviation."""
    spread_after: float | None = None
    shift: float | None = None
    """Of a number: Cohen's d; None where the number is constant in both tables."""
    bins: tuple[tuple[float, float], ...] = ()
    """Of a number: shares of reference and current in equal bins from the smallest value of both to the largest."""

    @property
    def drifted(self) -> bool:
        """The verdict says so."""
        return self.verdict is Verdict.DRIFTED

    @property
    def is_unknown(self) -> bool:
        """Only the window has the column, as after an update: the reference comes with the next training."""
        return self.reference_images == 0 < self.current_images and self.name.startswith(_NEW)

    @property
    def title(self) -> str:
        """The column in words."""
        return title_of(self.name)

    @property
    def label(self) -> str:
        """The column in words, after its source where it has one."""
        return f"{self.source}: {self.title}" if self.source else self.title

    @property
    def outcome(self) -> str:
        """The verdict in words."""
        return "not compared: the reference has none" if self.is_unknown else self.verdict.value

    @property
    def same_titles(self) -> str:
        """The columns of ``same_as`` in words."""
        return ", ".join(map(title_of, self.same_as))

    def explain(self) -> str:
        """What changed, as the part of a sentence: ``brightness fell from 0.48 to 0.24 (d = 3.1)``."""
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
            column.pop("source", None)  # a report without sources is what it was
        return column


class EvidentlySnapshot(BaseModel):
    """A report in an Evidently workspace."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    workspace: str
    """Folder, absolute, or URL."""
    project: str
    """UUID of the use case's project."""
    id: str
    """UUID of the snapshot."""


class DriftReport(BaseModel):
    """What changed between the reference and a window."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    reference_images: int
    current_images: int
    columns: tuple[ColumnDrift, ...]
    """In the order of the record; columns without a value in both tables are left out."""
    settings: DriftSettings
    sources: tuple[SourceDrift, ...] = ()
    """Those that were judged by themselves; none where the traffic names no source."""
    left_out: int = 0
    """Images of sources that are too rare to be judged."""
    snapshot: EvidentlySnapshot | None = None
    """Where Evidently's report on the same tables is; None where it was not kept."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def drifted(self) -> bool:
        """Any column did: by chance alone in a share of ``alpha`` of all windows."""
        return any(column.drifted for column in self.columns)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def share(self) -> float:
        """Of the columns that could be compared, how many drifted: 0 to 1; 0 without any."""
        compared = [column for column in self.columns if column.verdict is not Verdict.TOO_FEW]
        return sum(column.drifted for column in compared) / len(compared) if compared else 0.0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def embedding_drifted(self) -> bool:
        """The embeddings did."""
        return any(column.drifted for column in self.columns if column.kind is ColumnKind.EMBEDDING)

    @property
    def drifted_columns(self) -> tuple[ColumnDrift, ...]:
        """Most certain first; of equally certain ones the larger effect."""
        found = [column for column in self.columns if column.drifted]
        return tuple(sorted(found, key=lambda c: (c.p_adjusted or 0.0, -abs(c.effect or 0.0) / (c.min_effect or 1.0))))

    def names(self, most: int = 3) -> str:
        """The columns that drifted, the clearest first; "" for none.

        Args:
            most: Columns told before "and N more".
        """
        found = self.drifted_columns
        more = f" and {len(found) - most} more" if len(found) > most else ""
        return ", ".join(column.label for column in found[:most]) + more

    def explain(self, most: int = 4) -> str:
        """One sentence: what drifted, the clearest first.

        Args:
            most: Columns told before "and N more".
        """
        compared = sum(column.verdict is not Verdict.TOO_FEW for column in self.columns)
        sizes = f"{self.current_images:,} images against {self.reference_images:,} of the reference"
        if self.sources:
            number = len(self.sources)
            sizes += f", {number} source{'s' if number > 1 else ''} apart"
        return self._verdict(compared, sizes, most) + self._not_compared()

    def _not_compared(self) -> str:
        unknown = list(dict.fromkeys(column.title for column in self.columns if column.is_unknown))
        told = ""
        if unknown:
            more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
            told += f" Not compared, the reference has none: {', '.join(unknown[:_NAMED])}{more}; train again."
        if self.left_out:
            told += f" Not judged: {self.left_out:,} images of sources with fewer than {self.settings.min_images} each."
        return told

    def _verdict(self, compared: int, sizes: str, most: int) -> str:
        if not compared:
            return f"Too few to say: {sizes}; a column needs {self.settings.min_images} of each."
        if not self.drifted:
            return f"No drift: none of {compared} columns in {sizes}."
        found = self.drifted_columns
        told = "; ".join(column.explain() for column in found[:most])
        more = f"; and {len(found) - most} more" if len(found) > most else ""
        return f"Drift: {len(found)} of {compared} columns in {sizes}: {told}{more}."

    @property
    def drifted_sources(self) -> tuple[str, ...]:
        """Sources with a column that drifted, by name."""
        return tuple(sorted({column.source for column in self.columns if column.drifted and column.source}))

    @model_serializer(mode="wrap")
    def _write(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        report: dict[str, Any] = write(self)
        if not self.sources:
            report.pop("sources", None)  # a report without sources is what it was
            report.pop("left_out", None)
        return report
