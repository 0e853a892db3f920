"""Compare classes: the share of images that show each, and the mix of all boxes."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from visionops.monitoring.drift.comparison import Compared, read_column
from visionops.monitoring.drift.permutation import Numbers, deal, generator_of
from visionops.monitoring.drift.report import ColumnDrift, ColumnKind, Verdict
from visionops.monitoring.record import COLUMN_PREFIX
from visionops.monitoring.settings import DriftSettings

__all__ = [
    "Pattern",
    "compare_classes",
    "compare_mix",
    "compare_share",
    "compare_texts",
    "read_patterns",
    "read_texts",
    "text_columns",
]

Pattern = tuple[str, ...]
"""Classes that an image shows, each as often as it has boxes."""

_MIX_IMAGES = 2000
"""Maximum number of images of each table in the test of the mix; more would add far less than the least effect."""


def compare_classes(reference: pa.Table, current: pa.Table, settings: DriftSettings) -> list[Compared]:
    """Compare each class once, and the mix of classes where it adds information."""
    if not {"labels"} <= {*reference.column_names} & {*current.column_names}:
        return []
    sides = Counter(read_patterns(reference)), Counter(read_patterns(current))
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
        # Of two classes that complement each other, use the one that occurs often enough to be tested.
        first = next((name for name in names if shown[name].sum() >= settings.min_shown), names[0])
        others = [name for name in names if name != first]
        same_as = (*(f"class:{name}" for name in others), *(("labels",) if key == mix_of else ()))
        columns.append(Compared(compare_share(first, same_as, shown[first], counts.sum(axis=1), settings)))
    return columns if mix_of is not None else [*columns, compare_mix(*sides, settings)]


def read_patterns(table: pa.Table) -> list[Pattern]:
    """Return the classes that each image shows, in the order of the rows."""
    lists = read_column(table, "labels", pa.list_(pa.string())).to_pylist()
    return [tuple(sorted(name for name in labels or () if name is not None)) for labels in lists]


def compare_texts(reference: pa.Table, current: pa.Table, settings: DriftSettings) -> list[Compared]:
    """Compare each user-defined column of texts: their shares among the images that have one."""
    compared = []
    for name in text_columns(reference, current):
        sides = Counter(read_texts(reference, name)), Counter(read_texts(current, name))
        if any(pattern for side in sides for pattern in side):
            compared.append(compare_mix(*sides, settings, name))
    return compared


def text_columns(reference: pa.Table, current: pa.Table) -> list[str]:
    """Return the user-defined text columns that both tables have, in the order of the reference."""
    return [
        name
        for name in reference.column_names
        if name.startswith(COLUMN_PREFIX)
        and name in current.column_names
        and pa.types.is_string(reference.schema.field(name).type)
    ]


def read_texts(table: pa.Table, name: str) -> list[Pattern]:
    """Return the text of each image as a pattern of one, in the order of the rows; () where it is missing."""
    return [(text,) if text else () for text in table.column(name).to_pylist()]


def _images_or_others(rows: Sequence[int], number: int) -> tuple[int, ...]:
    """Return the patterns that show a class, or their complement: whichever does not have the first pattern.

    So a class and one that occurs on exactly the other images give the same result.
    """
    if rows[0] != 0:
        return tuple(rows)
    without = set(rows)
    return tuple(row for row in range(number) if row not in without)


def _carrier_of_mix(groups: Mapping[tuple[int, ...], object], patterns: Sequence[Pattern]) -> tuple[int, ...] | None:
    """Return the classes, by their key in ``groups``, that determine the mix; None where the mix adds information.

    With two kinds of images that have equally many labels (usually one of two classes), the share of one kind
    determines the mix, and changes by no less than it.
    """
    varying = [key for key in groups if key] or list(groups)
    is_one_bit = len(patterns) <= 2 and len(set(map(len, patterns))) == 1 and len(varying) == 1
    return varying[0] if is_one_bit else None


def compare_share(
    name: str,
    same_as: tuple[str, ...],
    shown: npt.NDArray[np.int64],
    images: npt.NDArray[np.int64],
    settings: DriftSettings,
) -> ColumnDrift:
    """Compare the share of images that show a class.

    Args:
        shown: Images that show it in reference and current, (2,).
        images: Images of reference and current, (2,).
    """
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
    """Return the p-value of Fisher's exact test, cached because many classes occur on the same few images."""
    from scipy.stats import fisher_exact

    return min(float(fisher_exact([[ours, theirs], [our_images - ours, their_images - theirs]]).pvalue), 1.0)


def compare_mix(
    reference: Counter[Pattern], current: Counter[Pattern], settings: DriftSettings, name: str = "labels"
) -> Compared:
    """Compare the shares of all classes among all boxes; images without a box do not count.

    Boxes of an image are similar, so images are permuted, not boxes: chi-square over boxes would give false alarms.
    """
    patterns = sorted(pattern for pattern in reference | current if pattern)
    counts = np.array([[side[pattern] for pattern in patterns] for side in (reference, current)], np.int64)
    images = counts.sum(axis=1)
    rng = generator_of(name, settings.seed)
    column = ColumnDrift(
        name=name,
        kind=ColumnKind.MIX,
        verdict=Verdict.TOO_FEW,
        reference_images=int(images[0]),
        current_images=int(images[1]),
        test="distance, permutation",
        min_effect=settings.min_gap,
    )
    if images.min() < settings.min_images:
        return Compared(column)
    drawn = np.array([_draw_images(side, rng) for side in counts])
    kept = drawn.sum(axis=0) > 0
    drawn = drawn[:, kept]
    both = drawn.sum(axis=0)
    boxes = _count_boxes([pattern for pattern, keep in zip(patterns, kept, strict=True) if keep])
    total = (boxes @ both.astype(np.float32)).astype(np.float64)

    def distance(dealt: npt.NDArray[np.integer[Any]]) -> Numbers:
        """Return the distance between the images on one side (draws, patterns) and the others of both tables."""
        ours = (boxes @ np.ascontiguousarray(dealt.T, dtype=np.float32)).astype(np.float64)
        size = ours.sum(axis=0)
        # |a / A - (t - a) / (T - A)|, summed and halved; in whole numbers, so that equal distances are exactly equal.
        ours *= total.sum()
        ours -= total[:, None] * size
        return np.asarray(np.abs(ours, out=ours).sum(axis=0) / (2 * size * (total.sum() - size)))

    smaller = int(drawn.sum(axis=1).min())
    found = float(distance(drawn[:1])[0])
    column = column.model_copy(update={"statistic": found, "effect": found})
    return Compared(column, lambda size: distance(deal(both, smaller, size, rng)))


def _count_boxes(patterns: Sequence[Pattern]) -> Any:
    """Count the boxes of each class on an image of each pattern: a sparse matrix (classes, patterns), float32."""
    from scipy.sparse import csr_array

    names = {name: row for row, name in enumerate(sorted({name for pattern in patterns for name in pattern}))}
    rows = [names[name] for pattern in patterns for name in pattern]
    columns = np.repeat(np.arange(len(patterns)), [len(pattern) for pattern in patterns])
    # Duplicate entries are summed.
    return csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=(len(names), len(patterns)))


def _draw_images(images: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    if images.sum() <= _MIX_IMAGES:
        return images
    return rng.multivariate_hypergeometric(images, _MIX_IMAGES, method="marginals")
