"""Read regions drawn in Label Studio: the results of an annotation, or the record that JSON-MIN makes of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from visionops.data.formats.shapes import number

__all__ = [
    "Drawing",
    "Region",
    "annotations_of",
    "bounds",
    "drawing_of_record",
    "drawing_of_results",
    "sampled_regions",
    "text",
]

_MAX_SIDE = 2**31 - 1
_Box = tuple[float, float, float, float]


class Region(NamedTuple):
    """One region or choice of an annotator."""

    kind: str
    """``rectangle``, ``polygon``, ``ellipse``, ``choices``, or another kind, which is not read."""
    labels: tuple[str, ...]
    value: dict[str, Any]
    question: str = ""
    """Name of the control for this region."""
    where: str = ""


class Drawing(NamedTuple):
    """The annotation of a task that is read."""

    regions: list[Region]
    size: tuple[int, int]
    """Width and height in pixels; 0 if not declared."""
    turned: bool
    """Whether the image was shown rotated by a quarter or half turn."""
    other: Counter[str]
    """Number of results without a region, by type."""


def sampled_regions(task: Any) -> Iterator[Region]:
    """Yield the regions of all annotations of a task, or of a record."""
    if not isinstance(task, dict):
        return
    if not isinstance(task.get("data"), dict):
        yield from drawing_of_record(task, "").regions
        return
    annotations = annotations_of(task)
    for annotation in annotations if isinstance(annotations, list) else ():
        if isinstance(annotation, dict) and isinstance(annotation.get("result"), list):
            yield from drawing_of_results(annotation["result"], "").regions


def drawing_of_results(results: list[Any], where: str) -> Drawing:
    """Join the results that share an id: a plain shape, its labels, and other answers on it."""
    by_id: dict[str, list[dict[str, Any]]] = {}
    for index, result in enumerate(results, start=1):
        row = result if isinstance(result, dict) else {}
        own = row.get("id")
        by_id.setdefault(own if isinstance(own, str) and own else f"#{index}", []).append(row)
    regions: list[Region] = []
    other: Counter[str] = Counter()
    for index, rows in enumerate(by_id.values(), start=1):
        place = f"{where}: region {index}"
        values = [row["value"] if isinstance(row.get("value"), dict) else {} for row in rows]
        kinds = [_kind_of(row.get("type"), value) for row, value in zip(rows, values, strict=True)]
        labels = tuple(dict.fromkeys(name for value in values for name in _labels_of(value)))
        drawn = next((i for i, kind in enumerate(kinds) if kind not in _SAID), None)
        if drawn is not None:
            regions.append(Region(kinds[drawn], labels, values[drawn], where=place))
            other.update(kind for kind in kinds if kind in _SAID and kind != "labels")
            continue
        for row, value, kind in zip(rows, values, kinds, strict=True):
            if kind == "choices":
                question = row.get("from_name")
                regions.append(Region(kind, _texts(value.get(kind)), value, text(question) or "class", place))
            else:
                other[kind] += 1
    return Drawing(regions, _size_of(results), _is_turned(results), other)


_SAID = frozenset(
    {"choices", "labels", "textarea", "number", "rating", "relation", "taxonomy", "datetime", "ranker", "pairwise"}
)
"""Types of results without a region."""


def drawing_of_record(record: dict[str, Any], where: str) -> Drawing:
    """Read a record of JSON-MIN: regions are lists below the names of their controls."""
    regions: list[Region] = []
    other: Counter[str] = Counter()
    drawn: list[Any] = []
    for key in sorted(record):
        value = record[key]
        found = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
        for row in found:
            kind = _kind_of(None, row)
            labels = _texts(row.get("choices")) if kind == "choices" else _labels_of(row)
            question = text(key) if kind == "choices" else ""
            if kind in _SAID and kind != "choices":
                other[kind] += 1
            else:
                regions.append(Region(kind, labels, row, question, f"{where}: {text(key)} {len(regions) + 1}"))
        drawn += found
        if key not in _NO_CHOICE and not found and _may_be_choice(value):
            regions.append(Region("choices", _texts(value), {}, text(key), f"{where}: {text(key)}"))
    return Drawing(regions, _size_of(drawn), _is_turned(drawn), other)


_NO_CHOICE = frozenset({"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "file_upload"})


def _may_be_choice(value: Any) -> bool:
    """Return whether a value may be a choice: its text or texts, like the columns of an imported table."""
    if isinstance(value, str):
        return bool(value.strip()) and "/" not in value and "." not in value
    return isinstance(value, list) and bool(_texts(value))


def _kind_of(type_: Any, value: dict[str, Any]) -> str:
    """Return the shape of a result, by its type, or by its keys if it has none."""
    if isinstance(type_, str) and type_:
        kind = text(type_).lower()
        if kind == "labels":
            return _shape_of(value) or kind
        return kind.removesuffix("labels") or kind
    for key in value:
        if isinstance(key, str) and key.endswith("labels") and key != "labels":
            return text(key).lower().removesuffix("labels")
    return _shape_of(value) or next((key for key in ("choices", "text", "number") if key in value), "other")


def _shape_of(value: dict[str, Any]) -> str:
    if "rle" in value:
        return "brush"
    if "points" in value:
        return "polygon"
    if "radiusX" in value:
        return "ellipse"
    return "rectangle" if {"x", "y", "width", "height"} <= value.keys() else ""


def _labels_of(value: dict[str, Any]) -> tuple[str, ...]:
    keys = [key for key in value if isinstance(key, str) and key.lower().endswith("labels")]
    return tuple(name for key in sorted(keys) for name in _texts(value[key]))


def _texts(value: Any) -> tuple[str, ...]:
    texts = value if isinstance(value, list) else [value]
    return tuple(t.strip() for t in map(text, texts) if t.strip())


def text(value: Any) -> str:
    """Return storable text, with halves of surrogate pairs escaped; "" for any other value."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else ""


def _size_of(results: Iterable[Any]) -> tuple[int, int]:
    for result in results:
        if isinstance(result, dict):
            width, height = result.get("original_width"), result.get("original_height")
            if type(width) is int and type(height) is int and 0 < min(width, height) <= max(width, height) <= _MAX_SIDE:
                return width, height
    return 0, 0


def _is_turned(results: Iterable[Any]) -> bool:
    return any(isinstance(result, dict) and result.get("image_rotation") not in (0, None) for result in results)


def bounds(region: Region, width: int, height: int) -> tuple[_Box, bool]:
    """Return the bounding box of a shape in pixels, not finite if malformed, and whether the shape is that box."""
    value = region.value
    sx, sy = width / 100, height / 100
    if region.kind == "polygon":
        points = value.get("points")
        pairs = points if isinstance(points, list) else []
        xys = [(number(p[0]), number(p[1])) for p in pairs if isinstance(p, list) and len(p) == 2]
        if len(xys) < len(pairs) or not xys or not all(map(math.isfinite, (v for xy in xys for v in xy))):
            return (math.nan,) * 4, True
        xs, ys = [x * sx for x, _ in xys], [y * sy for _, y in xys]
        return (min(xs), min(ys), max(xs), max(ys)), False
    angle = math.radians(number(value.get("rotation", 0) or 0))
    if not math.isfinite(angle):
        return (math.nan,) * 4, True
    cos, sin = math.cos(angle), math.sin(angle)
    x, y = number(value.get("x")) * sx, number(value.get("y")) * sy
    if region.kind == "ellipse":
        rx, ry = number(value.get("radiusX")) * sx, number(value.get("radiusY")) * sy
        half_x, half_y = math.hypot(rx * cos, ry * sin), math.hypot(rx * sin, ry * cos)
        return (x - half_x, y - half_y, x + half_x, y + half_y), False
    w, h = number(value.get("width")) * sx, number(value.get("height")) * sy
    if angle == 0 or not min(w, h) >= 0:
        return (x, y, x + w, y + h), True
    xs, ys = [0, w * cos, -h * sin, w * cos - h * sin], [0, w * sin, h * cos, w * sin + h * cos]
    return (x + min(xs), y + min(ys), x + max(xs), y + max(ys)), False


def annotations_of(task: dict[str, Any]) -> Any:
    """Return the annotations of a task, which versions before 1.0 call completions."""
    return task["annotations"] if "annotations" in task else task.get("completions")
