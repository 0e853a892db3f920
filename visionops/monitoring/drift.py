"""Has what the model is asked changed since it was trained, and in what?

Two tables of records (`visionops.monitoring.record`): the reference, which came with the model, and a window of the
log. The unit is the image: several boxes of one image say little more than one, so an image gives a column one number.

    numbers      features, count, an image's mean confidence, area and centre of boxes    Cramér-von Mises; where many
                                                                                          are equal: D, permutation
    classes      each class: the share of the images that show it                         Fisher's exact test
    labels       the share of each class among all boxes                                  distance, permutation
    embedding    the vectors as a whole                                                   MMD, permutation

A column drifted when its p-value, after Holm's correction over all columns, is at most ``alpha`` *and* its effect is
large enough to matter: the first keeps chance out, the second keeps a million images from making everything drift.

>>> report = detect_drift(reference, window, DriftSettings())
>>> report.explain()
'Drift: 1 of 20 columns in 100 images against 135 of the reference: brightness rose from 0.497 to 0.635 (d = 0.748).'
"""

from __future__ import annotations

import enum
import functools
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, computed_field

from visionops.monitoring.record import FEATURE_PREFIX
from visionops.monitoring.settings import DriftSettings

__all__ = ["ColumnDrift", "ColumnKind", "DriftReport", "Verdict", "detect_drift", "render_drift_html"]

_Numbers = npt.NDArray[np.float64]
_Vectors = npt.NDArray[np.float32]
_Draw = Callable[[int], _Numbers]
"""That many values of a statistic under a random exchange of images."""
_Pattern = tuple[str, ...]
"""What an image shows, each class as often as it has boxes."""
_Patterns = Counter[_Pattern]
"""To the number of such images."""

_MEANS = ("confidences", "areas", "centres_x", "centres_y")
_WORDS = {
    "count": "the number of boxes of an image",
    "confidences": "mean confidence of an image",
    "areas": "mean area of an image's boxes",
    "centres_x": "mean place of boxes across",
    "centres_y": "mean place of boxes down",
    "labels": "the mix of classes among boxes",
    "embedding": "embeddings",
}
_BATCH = 500
_ENOUGH = 20
"""Exchanges at least as far apart as the window, from which on more of them cannot make it drift."""
_TIE = 1e-5
"""Relative difference up to which two distances are equal: single precision sums them in any order."""
_FEW_IMAGES = 500
"""Up to here shuffling all images is quicker than drawing some of them."""
_FEW_PATTERNS = 64
"""Up to here dealing images pattern by pattern is quicker than dealing them one by one, however few there are."""
_MIX_IMAGES = 2000
"""Of each table, at most, in the test of the mix: with more, what it could add is far below the least effect."""
_COMPONENTS = 16
"""Of embeddings: with more, what moves drowns in what does not."""
_FEW_VALUES = 500
"""Distinct numbers up to which a column is tested as one of ties."""
_BINS = 24
_SMALL_SHIFT = 0.2
"""Cohen's d below which a drift is told as one of spread or shape, not of the mean."""


def _title(name: str) -> str:
    return _WORDS.get(name, name.removeprefix(FEATURE_PREFIX).removeprefix("class:"))


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


class ColumnDrift(BaseModel):
    """What was found in one column. Numbers are None where there were too few images to say."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """Of the record's column; of a class ``class:NAME``."""
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
    def title(self) -> str:
        """The column in words."""
        return _title(self.name)

    @property
    def same_titles(self) -> str:
        """The columns of ``same_as`` in words."""
        return ", ".join(map(_title, self.same_as))

    def explain(self) -> str:
        """What changed, as the part of a sentence: ``brightness fell from 0.48 to 0.24 (d = 3.1)``."""
        before, after, effect = self.before, self.after, _number(abs(self.effect or 0.0))
        if self.effect is None:
            return f"{self.title}: {self.verdict}"
        if self.kind is ColumnKind.EMBEDDING:
            return f"embeddings moved (MMD {effect})"
        if before is None or after is None:
            return f"{self.title} moved (total variation distance {effect})"
        word = "rose" if after > before else "fell"
        if self.kind is ColumnKind.CLASS:
            return f"images with {self.title} {word} from {before:.0%} to {after:.0%} (h = {effect})"
        if self.shift is not None and abs(self.shift) < _SMALL_SHIFT:
            spread = f"from {_number(self.spread_before)} to {_number(self.spread_after)}"
            return f"{self.title} changed in shape, its spread {spread} (D = {effect})"
        size = "" if self.shift is None else f" (d = {_number(abs(self.shift))})"
        return f"{self.title} {word} from {_number(before)} to {_number(after)}{size}"


class _Compared(NamedTuple):
    """A column before it is judged."""

    column: ColumnDrift
    draw: _Draw | None = None
    """Where the p-value is still to come from exchanges, which are to be compared with ``statistic``."""

    @property
    def is_tested(self) -> bool:
        """There are enough images."""
        return self.column.p_value is not None or self.draw is not None


class DriftReport(BaseModel):
    """What changed between the reference and a window."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    reference_images: int
    current_images: int
    columns: tuple[ColumnDrift, ...]
    """In the order of the record; columns without a value in both tables are left out."""
    settings: DriftSettings

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
        return ", ".join(column.title for column in found[:most]) + more

    def explain(self, most: int = 4) -> str:
        """One sentence: what drifted, the clearest first.

        Args:
            most: Columns told before "and N more".
        """
        compared = sum(column.verdict is not Verdict.TOO_FEW for column in self.columns)
        sizes = f"{self.current_images:,} images against {self.reference_images:,} of the reference"
        if not compared:
            return f"Too few to say: {sizes}; a column needs {self.settings.min_images} of each."
        if not self.drifted:
            return f"No drift: none of {compared} columns in {sizes}."
        found = self.drifted_columns
        told = "; ".join(column.explain() for column in found[:most])
        more = f"; and {len(found) - most} more" if len(found) > most else ""
        return f"Drift: {len(found)} of {compared} columns in {sizes}: {told}{more}."


def detect_drift(reference: pa.Table, current: pa.Table, settings: DriftSettings) -> DriftReport:
    """Compare a window of records with the reference, column by column.

    Neither the order of rows nor how values are encoded matters: what is missing is not there (a class that no image
    shows has a share of 0), and float64 is read as the float32 of the record. The same tables and settings give the
    same report.

    Args:
        reference: Columns of `visionops.monitoring.record`; those that are missing in either table are not compared.
        current: As ``reference``.
    """
    rng = np.random.default_rng(settings.seed)
    columns = [
        *_compare_numbers(reference, current, settings, rng),
        *_compare_classes(reference, current, settings, rng),
        *_compare_embeddings(reference, current, settings, rng),
    ]
    return DriftReport(
        reference_images=reference.num_rows,
        current_images=current.num_rows,
        columns=tuple(_judge(_test(columns, settings), settings.alpha)),
        settings=settings,
    )


def _test(compared: Sequence[_Compared], settings: DriftSettings) -> list[ColumnDrift]:
    """Give each column its p-value: only here is it known how many are tested, and so how small one must be."""
    tested = sum(one.is_tested for one in compared)
    # The least p-value is then below half of what Holm asks of the clearest column.
    limit = max(settings.permutations, math.ceil(2 * tested / settings.alpha))
    return [
        column if draw is None else column.model_copy(update={"p_value": _permutation_p(column.statistic, draw, limit)})
        for column, draw in compared
    ]


def _judge(columns: Sequence[ColumnDrift], alpha: float) -> list[ColumnDrift]:
    """Holm's correction, and the verdicts."""
    judged = list(columns)
    tested = sorted((c.p_value, row) for row, c in enumerate(columns) if c.p_value is not None)
    adjusted = 0.0
    for rank, (p, row) in enumerate(tested):
        adjusted = max(adjusted, min(1.0, p * (len(tested) - rank)))
        column = columns[row]
        matters = abs(column.effect or 0.0) >= column.min_effect
        verdict = Verdict.DRIFTED if adjusted <= alpha and matters else Verdict.STABLE
        judged[row] = column.model_copy(update={"p_adjusted": adjusted, "verdict": verdict})
    return judged


def _permutation_p(found: float | None, draw: _Draw, limit: int) -> float:
    """Share of random exchanges that are as far apart, of ``limit``; stops early where the answer is no.

    Besag and Clifford, Sequential Monte Carlo p-values, 1991. Either way the p-value is exact.
    """
    assert found is not None
    done = as_far = 0
    while done < limit:
        size = min(_BATCH, limit - done)
        hits = np.flatnonzero(draw(size) >= found * (1 - _TIE) - 1e-9)
        if as_far + len(hits) >= _ENOUGH:
            return float(_ENOUGH / (done + hits[_ENOUGH - as_far - 1] + 1))
        as_far += len(hits)
        done += size
    return (as_far + 1) / (limit + 1)


def _deal(
    images: npt.NDArray[np.int64], number: int, size: int, rng: np.random.Generator
) -> npt.NDArray[np.integer[Any]]:
    """Deal ``number`` of the images to one side, ``size`` times.

    Args:
        images: With each pattern or value, (patterns,).

    Returns:
        How many of each pattern that side got, (size, patterns).
    """
    total = int(images.sum())
    if len(images) <= max(_FEW_PATTERNS, total // 25):
        return np.asarray(rng.multivariate_hypergeometric(images, number, size, method="marginals"))
    chosen = _choose(total, number, size, rng, np.uint8)
    if len(images) == total:
        return chosen
    first = np.cumsum(images) - images
    return np.asarray(np.add.reduceat(chosen, first, axis=1, dtype=np.int64))


def _choose(total: int, number: int, size: int, rng: np.random.Generator, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Choose ``number`` of ``total`` images, ``size`` times: 1 where an image is chosen, else 0, (size, total)."""
    if total <= _FEW_IMAGES:
        return rng.permuted(np.broadcast_to((np.arange(total) < number).astype(dtype), (size, total)), axis=1)
    chosen = np.zeros((size, total), dtype)
    for row in chosen:
        row[rng.choice(total, number, replace=False, shuffle=False)] = 1
    return chosen


def _values(table: pa.Table, name: str, kind: pa.DataType) -> pa.Array:
    column = table.column(name).cast(kind)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], kind)


# ---- numbers


def _compare_numbers(
    reference: pa.Table, current: pa.Table, settings: DriftSettings, rng: np.random.Generator
) -> list[_Compared]:
    shared = [name for name in reference.column_names if name in current.column_names]
    names = [name for name in shared if name.startswith(FEATURE_PREFIX) or name == "count" or name in _MEANS]
    same: dict[tuple[bytes, bytes], list[str]] = {}
    values: dict[str, tuple[_Numbers, _Numbers]] = {}
    for name in names:
        before, after = _read_numbers(reference, name), _read_numbers(current, name)
        if len(before) or len(after):
            values[name] = before, after
            same.setdefault((_digest(before), _digest(after)), []).append(name)
    # The same numbers four times would make the correction four times as strict, and the share count one change thrice.
    return [_compare_number(first, tuple(others), *values[first], settings, rng) for first, *others in same.values()]


def _digest(values: _Numbers) -> bytes:
    return hashlib.sha256(values.tobytes()).digest()


def _read_numbers(table: pa.Table, name: str) -> _Numbers:
    """One finite value an image, sorted; images without one are left out."""
    if name in _MEANS:
        values = _means(_values(table, name, pa.list_(pa.float32())))
    else:
        # float32 first: a constant that one table holds as float64 would differ in its last digits, and so everywhere.
        column = _values(table, name, pa.float32())
        column = column.fill_null(0.0) if name == "count" else column
        values = column.to_numpy(zero_copy_only=False).astype(np.float64)
    return np.sort(values[np.isfinite(values)])  # sorted, because sums depend on their order


def _means(lists: pa.Array) -> _Numbers:
    """Of each list, float64 (rows,); NaN for one without a finite value."""
    image = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    value = pc.list_flatten(lists).to_numpy(zero_copy_only=False).astype(np.float64)
    there = np.isfinite(value)
    count = np.bincount(image[there], minlength=len(lists))
    total = np.bincount(image[there], value[there], minlength=len(lists))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _compare_number(
    name: str,
    same_as: tuple[str, ...],
    before: _Numbers,
    after: _Numbers,
    settings: DriftSettings,
    rng: np.random.Generator,
) -> _Compared:
    from scipy.stats import cramervonmises_2samp

    values = np.unique(np.concatenate([before, after]))
    tied = len(values) <= min(_FEW_VALUES, (len(before) + len(after)) / 2)
    column = ColumnDrift(
        name=name,
        kind=ColumnKind.NUMBER,
        verdict=Verdict.TOO_FEW,
        reference_images=len(before),
        current_images=len(after),
        test="D, permutation" if tied else "Cramér-von Mises",
        same_as=same_as,
        min_effect=settings.min_gap,
    )
    if min(len(before), len(after)) < settings.min_images:
        return _Compared(column)
    ours, theirs = (np.searchsorted(side, values, side="right") for side in (before, after))
    gap = statistic = float(_gap(ours, theirs).max())
    p: float | None = None
    draw: _Draw | None = None
    if tied:
        draw = _draw_gaps(np.diff(ours + theirs, prepend=0), len(before), rng)
    else:
        # Where numbers are equal the formula sees drift in anything: chance puts them in an order.
        order = np.lexsort((rng.random(len(before) + len(after)), np.concatenate([before, after])))
        ranks = np.empty(len(order))
        ranks[order] = np.arange(len(order))
        result = cramervonmises_2samp(ranks[: len(before)], ranks[len(before) :], method="asymptotic")
        statistic, p = float(result.statistic), float(np.clip(result.pvalue, 0.0, 1.0))
    edges = np.linspace(values[0], values[-1] if len(values) > 1 else values[0] + 1, _BINS + 1)
    shares = [np.histogram(side, edges)[0] / len(side) for side in (before, after)]
    spread = float(np.sqrt((before.var() * len(before) + after.var() * len(after)) / (len(before) + len(after))))
    shift = float(after.mean() - before.mean())
    return _Compared(
        column.model_copy(
            update={
                "statistic": statistic,
                "p_value": p,
                "effect": gap,
                "before": float(before.mean()),
                "after": float(after.mean()),
                "spread_before": float(before.std()),
                "spread_after": float(after.std()),
                "shift": shift / spread if spread > 0 else None,
                "bins": tuple(zip(shares[0].tolist(), shares[1].tolist(), strict=True)),
            }
        ),
        draw,
    )


def _gap(ours: npt.NDArray[np.int64], theirs: npt.NDArray[np.int64]) -> _Numbers:
    """Kolmogorov-Smirnov's D of numbers counted up to each value, (..., values) each."""
    return np.asarray(np.abs(ours / ours[..., -1:] - theirs / theirs[..., -1:]).max(axis=-1))


def _draw_gaps(both: npt.NDArray[np.int64], number: int, rng: np.random.Generator) -> _Draw:
    """D when ``number`` of the images are dealt to one side; ``both``: images with each value, (values,)."""

    def draw(size: int) -> _Numbers:
        ours = _deal(both, number, size, rng)
        return _gap(ours.cumsum(axis=1, dtype=np.int64), (both - ours).cumsum(axis=1))

    return draw


# ---- classes


def _compare_classes(
    reference: pa.Table, current: pa.Table, settings: DriftSettings, rng: np.random.Generator
) -> list[_Compared]:
    if not {"labels"} <= {*reference.column_names} & {*current.column_names}:
        return []
    sides = _read_patterns(reference), _read_patterns(current)
    patterns = sorted(sides[0] | sides[1])
    shown_in: dict[str, list[int]] = {}
    for row, pattern in enumerate(patterns):
        for name in dict.fromkeys(pattern):
            shown_in.setdefault(name, []).append(row)
    if not shown_in:
        return []
    counts = np.array([[side[pattern] for pattern in patterns] for side in sides], np.int64)
    shown = {name: counts[:, shown_in[name]].sum(axis=1) for name in sorted(shown_in)}
    groups: dict[tuple[int, ...], list[str]] = {}
    for name in shown:
        groups.setdefault(_images_or_others(shown_in[name], len(patterns)), []).append(name)
    mix_of = _carrier_of_mix(groups, patterns)
    columns = []
    for key, names in groups.items():
        # Of two classes that complete each other, the one that is shown often enough to say something.
        first = next((name for name in names if shown[name].sum() >= settings.min_shown), names[0])
        others = [name for name in names if name != first]
        same_as = (*(f"class:{name}" for name in others), *(("labels",) if key == mix_of else ()))
        columns.append(_Compared(_compare_share(first, same_as, shown[first], counts.sum(axis=1), settings)))
    return columns if mix_of is not None else [*columns, _compare_mix(patterns, counts, settings, rng)]


def _read_patterns(table: pa.Table) -> _Patterns:
    lists = _values(table, "labels", pa.list_(pa.string())).to_pylist()
    return Counter(tuple(sorted(name for name in labels or () if name is not None)) for labels in lists)


def _images_or_others(rows: Sequence[int], number: int) -> tuple[int, ...]:
    """The patterns that show a class, or those that do not: of the two, those without the first pattern.

    So a class and another that is on exactly the other images have the same.
    """
    if rows[0] != 0:
        return tuple(rows)
    without = set(rows)
    return tuple(row for row in range(number) if row not in without)


def _carrier_of_mix(groups: Mapping[tuple[int, ...], object], patterns: Sequence[_Pattern]) -> tuple[int, ...] | None:
    """The classes, by their key in ``groups``, that say all that the mix says; None where it says more.

    Images of two kinds, each with as many labels as the other (one of two classes, as a rule): the share of one kind
    is all there is to know, and it moves by no less than the mix.
    """
    varying = [key for key in groups if key] or list(groups)
    is_one_bit = len(patterns) <= 2 and len(set(map(len, patterns))) == 1 and len(varying) == 1
    return varying[0] if is_one_bit else None


def _compare_share(
    name: str,
    same_as: tuple[str, ...],
    shown: npt.NDArray[np.int64],
    images: npt.NDArray[np.int64],
    settings: DriftSettings,
) -> ColumnDrift:
    """Compare the share of images that show a class; ``shown`` and ``images``: of reference and current, (2,) each."""
    column = ColumnDrift(
        name=f"class:{name}",
        kind=ColumnKind.CLASS,
        verdict=Verdict.TOO_FEW,
        reference_images=int(images[0]),
        current_images=int(images[1]),
        test="Fisher's exact",
        same_as=same_as,
        min_effect=settings.min_share_change,
    )
    if images.min() < settings.min_images or shown.sum() < settings.min_shown:
        return column
    p = _fisher_p(*shown.tolist(), *images.tolist())
    shares = (shown / images).tolist()
    h = 2 * float(np.arcsin(np.sqrt(shares[1])) - np.arcsin(np.sqrt(shares[0])))
    return column.model_copy(
        update={
            "statistic": shares[1] - shares[0],
            "p_value": p,
            "effect": h,
            "before": shares[0],
            "after": shares[1],
        }
    )


@functools.lru_cache(maxsize=4096)
def _fisher_p(ours: int, theirs: int, our_images: int, their_images: int) -> float:
    """Of hundreds of classes many are shown by the same few images."""
    from scipy.stats import fisher_exact

    return min(float(fisher_exact([[ours, theirs], [our_images - ours, their_images - theirs]]).pvalue), 1.0)


def _compare_mix(
    patterns: Sequence[_Pattern], counts: npt.NDArray[np.int64], settings: DriftSettings, rng: np.random.Generator
) -> _Compared:
    """Boxes of an image are alike, so images are exchanged, not boxes: chi-square over boxes would cry wolf.

    Args:
        counts: Images of reference and current with each pattern, (2, patterns).
    """
    has_boxes = np.array([bool(pattern) for pattern in patterns])
    images = (counts * has_boxes).sum(axis=1)
    column = ColumnDrift(
        name="labels",
        kind=ColumnKind.MIX,
        verdict=Verdict.TOO_FEW,
        reference_images=int(images[0]),
        current_images=int(images[1]),
        test="distance, permutation",
        min_effect=settings.min_gap,
    )
    if images.min() < settings.min_images:
        return _Compared(column)
    drawn = np.array([_draw_images(side, rng) for side in counts * has_boxes])
    kept = drawn.sum(axis=0) > 0
    drawn = drawn[:, kept]
    both = drawn.sum(axis=0)
    boxes = _count_boxes([pattern for pattern, keep in zip(patterns, kept, strict=True) if keep])
    total = (boxes @ both.astype(np.float32)).astype(np.float64)

    def distance(dealt: npt.NDArray[np.integer[Any]]) -> _Numbers:
        """Between the images dealt to one side (draws, patterns) and the others of both tables."""
        ours = (boxes @ np.ascontiguousarray(dealt.T, dtype=np.float32)).astype(np.float64)
        size = ours.sum(axis=0)
        # |a / A - (t - a) / (T - A)|, summed and halved; whole numbers, so that equal distances are equal.
        ours *= total.sum()
        ours -= total[:, None] * size
        return np.asarray(np.abs(ours, out=ours).sum(axis=0) / (2 * size * (total.sum() - size)))

    smaller = int(drawn.sum(axis=1).min())
    found = float(distance(drawn[:1])[0])
    column = column.model_copy(update={"statistic": found, "effect": found})
    return _Compared(column, lambda size: distance(_deal(both, smaller, size, rng)))


def _count_boxes(patterns: Sequence[_Pattern]) -> Any:
    """Boxes of each class on an image of each pattern: a sparse matrix (classes, patterns), float32."""
    from scipy.sparse import csr_array

    names = {name: row for row, name in enumerate(sorted({name for pattern in patterns for name in pattern}))}
    rows = [names[name] for pattern in patterns for name in pattern]
    columns = np.repeat(np.arange(len(patterns)), [len(pattern) for pattern in patterns])
    # What stands at one place several times is summed.
    return csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=(len(names), len(patterns)))


def _draw_images(images: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    if images.sum() <= _MIX_IMAGES:
        return images
    return rng.multivariate_hypergeometric(images, _MIX_IMAGES, method="marginals")


# ---- embeddings


def _compare_embeddings(
    reference: pa.Table, current: pa.Table, settings: DriftSettings, rng: np.random.Generator
) -> list[_Compared]:
    """MMD (Gretton et al., A kernel two-sample test, 2012), RBF kernel, its width by the median heuristic."""
    if not {"embedding"} <= {*reference.column_names} & {*current.column_names}:
        return []
    before = _read_vectors(reference, None)
    after = _read_vectors(current, before.shape[1] or None)
    if not len(before) and not len(after):
        return []
    column = ColumnDrift(
        name="embedding",
        kind=ColumnKind.EMBEDDING,
        verdict=Verdict.TOO_FEW,
        reference_images=len(before),
        current_images=len(after),
        test="MMD, permutation",
        min_effect=settings.min_mmd,
    )
    if min(len(before), len(after)) < settings.min_images:
        return [_Compared(column)]
    first, second = (_draw_vectors(vectors, settings.embedding_images, rng) for vectors in (before, after))
    kernel = _kernel(_whiten(np.concatenate([first, second])))
    found, effect = _mmd(kernel, len(first))
    column = column.model_copy(update={"statistic": found, "effect": effect})
    return [_Compared(column, _exchanges(kernel, len(first), rng))]


def _read_vectors(table: pa.Table, length: int | None) -> _Vectors:
    """Those of ``length`` (the most frequent when absent) without a missing number, float32 (rows, length)."""
    lists = _values(table, "embedding", pa.list_(pa.float32()))
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    if length is None:
        length = int(np.bincount(lengths[lengths > 0]).argmax()) if (lengths > 0).any() else 0
    if not length:
        return np.empty((0, 0), np.float32)
    if not (lengths == length).all():
        lists = lists.filter(pa.array(lengths == length))
    flat: _Vectors = lists.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    vectors = flat.reshape(-1, length)
    finite = np.isfinite(vectors).all(axis=1)
    return vectors if finite.all() else vectors[finite]


def _draw_vectors(vectors: _Vectors, number: int, rng: np.random.Generator) -> _Numbers:
    """At random, but whatever the order of the rows: they are put in the order of their bytes first."""
    rows = np.ascontiguousarray(vectors).view(np.dtype((np.void, vectors.itemsize * vectors.shape[1]))).ravel()
    order = np.argsort(rows, kind="stable")
    if len(order) > number:
        order = order[np.sort(rng.choice(len(order), number, replace=False))]
    return vectors[order].astype(np.float64)


def _whiten(vectors: _Numbers) -> _Numbers:
    """Principal components, each with a spread of 1: else what varies most hides the rest. (rows, components)."""
    left, size, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    kept = min(int((size > 1e-4 * max(size[0], 1e-6)).sum()), _COMPONENTS)
    return np.asarray(left[:, :kept] * np.sqrt(len(vectors)))


def _kernel(vectors: _Numbers) -> _Numbers:
    """RBF, (rows, rows)."""
    square = (vectors**2).sum(axis=1)
    distance = np.maximum(square[:, None] + square - 2 * vectors @ vectors.T, 0.0)
    median = float(np.median(distance[np.triu_indices(len(distance), 1)]))
    return np.asarray(np.exp(-distance / median)) if median > 0 else (distance <= 0).astype(np.float64)


def _mmd(kernel: _Numbers, n: int) -> tuple[float, float]:
    """Of the first ``n`` rows and the others: what `_exchanges` gives, and the unbiased MMD, not squared."""
    m = len(kernel) - n
    own, other, cross = kernel[:n, :n], kernel[n:, n:], kernel[:n, n:].mean()
    found = own.mean() + other.mean() - 2 * cross
    unbiased = (own.sum() - n) / (n * (n - 1)) + (other.sum() - m) / (m * (m - 1)) - 2 * cross
    return float(found), float(np.sqrt(max(unbiased, 0.0)))


def _exchanges(kernel: _Numbers, n: int, rng: np.random.Generator) -> _Draw:
    """Squared MMD, biased, of random halves. Centred, the kernel asks for one product a draw instead of three."""
    mean = kernel.mean(axis=0)
    centred = (kernel - mean - mean[:, None] + mean.mean()).astype(np.float32)
    scale = (1 / n + 1 / (len(kernel) - n)) ** 2
    smaller = min(n, len(kernel) - n)

    def draw(size: int) -> _Numbers:
        chosen = _choose(len(kernel), smaller, size, rng, np.float32)
        return np.asarray(scale * np.einsum("ij,ij->i", chosen @ centred, chosen), np.float64)

    return draw


# ---- the report


def _number(value: float | None) -> str:
    """Three digits are enough to see a change."""
    return "-" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _outline(column: ColumnDrift, side: int) -> str:
    """Points of an SVG polyline, 120 x 24: the histogram of reference (0) or current (1)."""
    top = max(max(pair) for pair in column.bins)
    step = 120 / len(column.bins)
    corners = [(i + edge, pair[side] / top) for i, pair in enumerate(column.bins) for edge in (0, 1)]
    return " ".join(f"{x * step:.1f},{24 - 23 * share:.1f}" for x, share in corners)


def render_drift_html(report: DriftReport) -> str:
    """A page with the sentence and a row per column: what it was, what it is, how sure and how large the change is."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("visionops.monitoring", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["number"] = _number
    ranked: Any = sorted(report.columns, key=lambda c: (not c.drifted, c.p_adjusted if c.p_adjusted is not None else 2))
    return environment.get_template("drift.html.j2").render(report=report, columns=ranked, outline=_outline)
