"""Split traffic by source, and compare each source's images with its own, so that a new mix is a single change."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from visionops.monitoring.drift.compared_classes import Pattern
from visionops.monitoring.drift.report import OTHER_SOURCES, Baseline, SourceDrift
from visionops.monitoring.settings import DriftSettings

__all__ = ["MOST_SOURCES", "Strata", "Stratum", "sources_without_reference", "stratify"]

Rows = npt.NDArray[np.int64]

MOST_SOURCES = 20
"""Maximum number of sources judged separately, those with the most images. It bounds the number of tests and labels."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stratum:
    """Images of one source, and their baseline."""

    source: str
    """Name of the source; "" for traffic without sources, which is one stratum."""
    before: Rows
    """Rows of `Strata.reference`."""
    after: Rows
    """Rows of `Strata.current`."""
    against: Baseline

    def describe(self) -> SourceDrift:
        """Return the numbers of images and the baseline for the report."""
        return SourceDrift(
            name=self.source,
            reference_images=len(self.before),
            current_images=len(self.after),
            against=self.against,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Strata:
    """Two tables, and their split into strata."""

    reference: pa.Table
    """Reference, followed by earlier traffic of sources that are compared with it."""
    current: pa.Table
    parts: tuple[Stratum, ...]
    mix: tuple[tuple[Pattern, ...], tuple[Pattern, ...]] = ((), ())
    """Source of each row of reference and current as a pattern of one, () where it is unknown or not compared. Rare
    sources count as one. Empty where the reference has no source."""
    left_out: int = 0
    """Images of the window in no stratum: those of sources with too few images."""

    @property
    def has_sources(self) -> bool:
        """Return whether the traffic has sources."""
        return any(part.source for part in self.parts)


def stratify(
    reference: pa.Table, current: pa.Table, settings: DriftSettings, history: pa.Table | None = None
) -> Strata:
    """Split two tables of records by source.

    A source with at least ``min_images`` images in the window is a stratum, at most `MOST_SOURCES` of them. The others
    form one stratum together, if they are enough. A stratum is compared with its source's images in the reference;
    where these are too few, with its own earlier traffic; where that is too little, too, with the whole reference.

    Args:
        reference: Reference of a bundle, or earlier traffic.
        history: Earlier traffic of the same model, by source.

    Returns:
        The strata; a single one with all images where the window has no source.
    """
    ours, theirs = _sources(current), _sources(reference)
    counts = Counter(name for name in ours if name)
    whole = Stratum("", np.arange(len(reference)), np.arange(len(current)), Baseline.REFERENCE)
    if not counts:
        return Strata(reference, current, (whole,))
    enough = [(name, count) for name, count in counts.items() if count >= settings.min_images]
    judged = sorted(name for name, _ in sorted(enough, key=lambda pair: (-pair[1], pair[0]))[:MOST_SOURCES])
    earlier = np.empty(0, object) if history is None else _sources(history)
    known = np.concatenate([theirs, earlier])
    is_reference = np.arange(len(known)) < len(theirs)
    parts = []
    for name in judged:
        before, against = _choose(known == name, is_reference, settings)
        parts.append(Stratum(name, before, np.flatnonzero(ours == name), against))
    others = np.flatnonzero(~np.isin(ours, judged))
    if len(others) >= settings.min_images:
        before, against = _choose(~np.isin(known, judged), is_reference, settings)
        parts.append(Stratum(OTHER_SOURCES, before, others, against))
        others = others[:0]
    if not parts:  # the window has too few images for any comparison
        return Strata(reference, current, (whole,))
    both = reference if history is None else pa.concat_tables([reference, history], promote_options="default")
    mix = _mix(theirs, earlier, ours, judged, settings)
    return Strata(both, current, tuple(parts), mix, len(others))


def sources_without_reference(reference: pa.Table, current: pa.Table, settings: DriftSettings) -> bool:
    """Return whether the window has a source with too few images in the reference, so earlier traffic is needed."""
    known, needed = (Counter(name for name in _sources(table) if name) for table in (reference, current))
    least = settings.min_images
    return any(count >= least and known[name] < least for name, count in needed.items())


def _choose(
    is_own: npt.NDArray[np.bool_], is_reference: npt.NDArray[np.bool_], settings: DriftSettings
) -> tuple[Rows, Baseline]:
    for rows, against in ((is_own & is_reference, Baseline.OWN), (is_own & ~is_reference, Baseline.HISTORY)):
        if rows.sum() >= settings.min_images:
            return np.flatnonzero(rows), against
    return np.flatnonzero(is_reference), Baseline.REFERENCE


def _mix(
    theirs: npt.NDArray[np.object_],
    earlier: npt.NDArray[np.object_],
    ours: npt.NDArray[np.object_],
    judged: list[str],
    settings: DriftSettings,
) -> tuple[tuple[Pattern, ...], tuple[Pattern, ...]]:
    nothing = np.full(len(theirs), "", object)
    for side in (np.concatenate([theirs, np.full(len(earlier), "", object)]), np.concatenate([nothing, earlier])):
        if np.count_nonzero(side != "") >= settings.min_images:
            # Sources that are rare in the window may be half of the reference, which is a change of the mix.
            kept = {*judged, *(name for name, count in Counter(side).items() if name and count >= settings.min_images)}
            ranked = [*judged, *sorted(kept.difference(judged))][: 2 * MOST_SOURCES]
            names: Mapping[str, str] = {name: name for name in ranked}
            return _patterns(side, names), _patterns(ours, names)
    return (), ()


def _patterns(sources: npt.NDArray[np.object_], names: Mapping[str, str]) -> tuple[Pattern, ...]:
    return tuple((names.get(name, OTHER_SOURCES),) if name else () for name in sources)


def _sources(table: pa.Table) -> npt.NDArray[np.object_]:
    """Return the source of each row, "" where it is unknown: (rows,)."""
    if "source" not in table.column_names:
        return np.full(len(table), "", object)
    return np.array([name or "" for name in table["source"].to_pylist()], object)
