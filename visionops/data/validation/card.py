"""Render the validation report as one HTML page: result, findings with pictures, and statistics of the data.

The page is self-contained: no script, nothing loaded from outside, every name escaped; at most 3 MB for any data set.
"""

from __future__ import annotations

import base64
import collections
import dataclasses
import functools
import io
from collections.abc import Callable, Sequence
from typing import Any

import jinja2
import numpy as np

from visionops.data.audit import describe_labels, labelled_tile, pick_examples
from visionops.data.dataset import Dataset
from visionops.data.findings import Code, Finding, Severity
from visionops.data.validation.charts import draw_charts
from visionops.data.validation.report import ValidationReport
from visionops.data.validation.titles import TITLES

__all__ = ["render_card"]

_TILE = 208  # drawn slightly larger than shown, for sharp screens
_PLACES = 8
_SETS = 6  # pictures, or pairs of pictures, per kind of finding
_OPEN = 6  # kinds of findings shown expanded, worst first
_EXAMPLES = 12
_CLASSES = 80
_MAX_PICTURE_BYTES = 1_800_000  # all pictures together, before base64 adds a third
_MAX_TEXT = 300

_SIDE_BY_SIDE = {Code.DUPLICATE_IMAGE, Code.NEAR_DUPLICATE, Code.LEAK, Code.NEAR_LEAK, Code.CONFLICTING_LABEL}
_SPLIT_COLOURS = {"train": "#0072b2", "val": "#e69f00", "test": "#009e73", "unlabelled": "#adb5bd", "": "#0072b2"}


@dataclasses.dataclass(frozen=True, slots=True)
class _Picture:
    data: str
    caption: str


class _Album:
    """Thumbnails of usable images as data URIs, each drawn once, until the page is full."""

    def __init__(self, dataset: Dataset, report: ValidationReport, fetch: Callable[[Dataset], Dataset]) -> None:
        self._dataset, self._fetch = dataset, fetch
        self._boxes = dataset.boxes_by_image() if dataset.num_images else []
        problems = report.facts.column("problem").to_pylist()
        self._row_of = {key: row for row, key in enumerate(dataset.column("key")) if not problems[row]}
        self._splits = dataset.column("split")
        self._labels = describe_labels(dataset)
        self._left = _MAX_PICTURE_BYTES
        self._made: dict[str, _Picture] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._row_of

    def of(self, keys: Sequence[str]) -> list[_Picture]:
        return [picture for key in keys if key in self and (picture := self._one(key))]

    def _one(self, key: str) -> _Picture | None:
        # A picture that is shown again takes its bytes again.
        if self._left <= 0:
            return None
        if key not in self._made:
            row = self._row_of[key]
            buffer = io.BytesIO()
            image = self._fetch(self._dataset.take([row]))
            labelled_tile(image, 0, self._boxes[row], _TILE).save(buffer, "JPEG", quality=80)
            data = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
            caption = " · ".join(filter(None, (self._labels[row], self._splits[row], _short(key, 80))))
            self._made[key] = _Picture(data, caption)
        self._left -= len(self._made[key].data) * 3 // 4
        return self._made[key]


def render_card(
    dataset: Dataset, report: ValidationReport, fetch: Callable[[Dataset], Dataset] = lambda images: images
) -> str:
    """Render the report for people.

    Args:
        dataset: The validated data set; its images give the thumbnails.
        fetch: Returns the given images with paths on this machine.

    Returns:
        A complete HTML page, at most 3 MB.
    """
    album = _Album(dataset, report, fetch)
    # Fetch twice as many as are shown, because some may be unusable.
    examples = [dataset.images.column("key")[row].as_py() for row in pick_examples(dataset, 2 * _EXAMPLES)]
    worst = next((s for s in Severity if any(f.severity is s for f in report.findings)), None)
    return _template().render(
        name=_short(dataset.name, 120),
        verdict=report.verdict,
        mood=worst.value if worst else "good",
        advice=_advice(worst),
        totals=_totals(dataset, report),
        notes=[_short(note, _MAX_TEXT) for note in dataset.notes[:20]],
        groups=[_group(*group, album, index < _OPEN) for index, group in enumerate(report.grouped())],
        labelled=bool(dataset.attributes),
        splits=_split_rows(dataset),
        classes=_class_groups(dataset, report),
        split_legend=[(s or "all images", _SPLIT_COLOURS[s]) for s in report.counts["splits"]],
        charts=draw_charts(dataset, report),
        sizes=_sizes(report),
        examples=album.of([key for key in examples if key in album][:_EXAMPLES]),
    )


@functools.cache
def _template() -> jinja2.Template:
    loader = jinja2.PackageLoader("visionops.data.validation", ".")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("card.html.j2")


def _short(text: str, most: int) -> str:
    """Shorten a text, and make it printable whatever bytes a file name has."""
    clean = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return clean if len(clean) <= most else f"{clean[: most // 2]}…{clean[-most // 2 :]}"


def _advice(worst: Severity | None) -> str:
    if worst is Severity.ERROR:
        return (
            "Training does not start. Fix the findings marked as error, or lower their severity under "
            "validation.severities."
        )
    if worst is Severity.WARNING:
        return "Training can start. Warnings are fixed automatically, as each one says."
    return ""


def _totals(dataset: Dataset, report: ValidationReport) -> list[tuple[str, str]]:
    counts = report.counts
    totals = [(counts["images"], "images")]
    if not dataset.attributes:
        totals.append((counts["boxes"], "boxes"))
    elif len(dataset.attributes) > 1:
        totals.append((len(dataset.attributes), "attributes"))
    totals.append((len(dataset.all_class_names), "classes"))
    if counts["usable"] != counts["images"]:
        totals.append((counts["images"] - counts["usable"], "unusable images"))
    totals.append((len(report.findings), "findings"))
    return [(f"{number:,}", label) for number, label in totals]


def _group(severity: Severity, code: Code, findings: list[Finding], album: _Album, is_open: bool) -> dict[str, Any]:
    if code in _SIDE_BY_SIDE:
        sets = [pair for f in findings[:_SETS] if len(pair := album.of(f.images[:2])) > 1]
    else:
        keys = dict.fromkeys(key for f in findings for key in f.images[:1])
        sets = [[picture] for picture in album.of(list(keys)[:_SETS])]
    return {
        "severity": severity.value,
        "code": code.value,
        "title": TITLES[code],
        "count": f"{len(findings):,}",
        "places": [(_short(f.where, _MAX_TEXT), _short(f.message, _MAX_TEXT)) for f in findings[:_PLACES]],
        "more": f"{len(findings) - _PLACES:,}" if len(findings) > _PLACES else "",
        "pictures": sets,
        "open": is_open,
    }


def _split_rows(dataset: Dataset) -> list[list[str]]:
    splits = np.array(dataset.column("split"), dtype=object)
    if dataset.attributes:
        silent = np.asarray(~dataset.presence().any(axis=1))
        counts = dataset.split_counts().items()
        return [[s or "not split yet", f"{n:,}", f"{np.sum(silent[splits == s]):,}"] for s, n in counts]
    per_image = np.bincount(dataset.box_arrays()[0], minlength=dataset.num_images)
    rows = []
    for split in dataset.split_counts():
        boxes = per_image[splits == split]
        mean = f"{boxes.mean():.1f}"
        rows.append([split or "not split yet", f"{len(boxes):,}", f"{np.sum(boxes == 0):,}", f"{boxes.sum():,}", mean])
    return rows


def _class_groups(dataset: Dataset, report: ValidationReport) -> list[dict[str, Any]]:
    """Return the classes of each attribute, or of all boxes, most frequent first; the longest bar fills its line."""
    classes: dict[str, dict[str, int]] = report.counts["classes"]
    longest = max((sum(per_split.values()) for per_split in classes.values()), default=0) or 1
    if len(dataset.attributes) < 2:
        return [_class_group("", classes, longest)] if classes else []
    groups, counts = [], list(classes.values())
    for attribute in dataset.attributes:
        own, counts = counts[: len(attribute.class_names)], counts[len(attribute.class_names) :]
        groups.append(_class_group(attribute.name, dict(zip(attribute.class_names, own, strict=True)), longest))
    return groups


def _class_group(title: str, classes: dict[str, dict[str, int]], longest: int) -> dict[str, Any]:
    rows = []
    for name, per_split in sorted(classes.items(), key=lambda item: -sum(item[1].values())):
        parts = [
            {"width": f"{100 * n / longest:.2f}", "colour": _SPLIT_COLOURS[split]}
            for split, n in per_split.items()
            if n
        ]
        detail = ", ".join(f"{split or 'all'} {n:,}" for split, n in per_split.items() if n)
        count = f"{sum(per_split.values()):,}" if any(per_split.values()) else ""
        rows.append({"name": _short(name, 60), "parts": parts, "detail": detail, "count": count or 0})
    return {"title": _short(title, 60), "rows": rows[:_CLASSES], "more": max(len(rows) - _CLASSES, 0)}


def _sizes(report: ValidationReport) -> str:
    pairs = zip(report.facts.column("width").to_pylist(), report.facts.column("height").to_pylist(), strict=True)
    tally = collections.Counter(pair for pair in pairs if pair[0])
    shown = [f"{width} x {height} ({count:,})" for (width, height), count in tally.most_common(6)]
    rest = len(tally) - len(shown)
    return ", ".join(shown) + (f" and {rest:,} other sizes" if rest else "")
