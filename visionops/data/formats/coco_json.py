"""Read the content of COCO files: check images, categories and annotations, and add them to a data set.

A COCO box is ``[x, y, width, height]`` from the upper left corner, in pixels, continuous: ``x2 = x + width``. An
annotation without a box gets the box of its polygons or of its run-length mask. Crowd annotations (``iscrowd``) outline
groups, not objects: they are left out, and so is an image without other annotations (`Code.CROWD_ONLY`).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from visionops.data.dataset import Dataset, Split
from visionops.data.findings import Code, counted
from visionops.data.formats.assembly import DROPPED, Assembly, ImageEntry, examples
from visionops.data.formats.names import Bases
from visionops.data.listing import Listing
from visionops.errors import AnnotationError

__all__ = ["CocoFiles", "CocoPart", "is_coco", "load_coco"]

_KEYS = ("images", "annotations", "categories")
_MAX_INT32 = 2**31 - 1
_UNKNOWN = -2
_WHOLE_FRACTION = 1.0 + 1e-6


def is_coco(raw: Any) -> bool:
    """Return whether a parsed JSON file holds COCO annotations of objects."""
    if not isinstance(raw, dict) or not all(isinstance(raw.get(key), list) for key in _KEYS):
        return False
    first = next((row for row in raw["annotations"] if isinstance(row, dict)), None)
    return first is None or "caption" not in first


def load_coco(listing: Listing, file: str) -> dict[str, Any]:
    """Parse a COCO file and check its top-level structure.

    Raises:
        AnnotationError: It is missing, not JSON, or not COCO.
    """
    path = listing.path(file)
    raw = listing.read_json(file)
    if not isinstance(raw, dict):
        raise AnnotationError(f"{path}: must be a COCO object, but is a {_kind(raw)}; export the annotations as COCO")
    for key in _KEYS:
        if key not in raw:
            raise AnnotationError(f'{path}: lacks "{key}"; export the annotations as COCO detection')
        rows = raw[key]
        if not isinstance(rows, list):
            raise AnnotationError(f'{path}: "{key}" must be a list, but is a {_kind(rows)}')
        if not set(map(type, rows)) <= {dict}:
            at = next(i for i, row in enumerate(rows) if not isinstance(row, dict))
            raise AnnotationError(f'{path}: "{key}"[{at}] must be an object, but is a {_kind(rows[at])}')
    return raw


class CocoPart(NamedTuple):
    """An annotation file of a data set."""

    raw: dict[str, Any]
    """Content from `load_coco`."""
    place: str
    """Name of the file in messages."""
    bases: Bases
    """Folders that file names may be relative to."""
    split: Split


class CocoFiles:
    """Joins several COCO files into one data set."""

    def __init__(self, listing: Listing, *, crowds_are_objects: bool = False) -> None:
        self.assembly = Assembly(listing)
        self.crowds_are_objects = crowds_are_objects
        self.placeholders: set[int] = set()
        self.crowd_only: set[int] = set()
        """Rows of images that have only crowd annotations."""

    def add(self, parts: Sequence[CocoPart]) -> None:
        """Add all annotation files."""
        for part in parts:
            names = (entry.get("file_name", entry.get("coco_url")) for entry in part.raw["images"])
            self.assembly.reserve((name for name in names if isinstance(name, str)), part.bases)
        for part in parts:
            _File(self, *part).read()

    def dataset(self, name: str, within: Sequence[str] = ("",)) -> Dataset:
        """Build the data set, without images that have only crowds and without the placeholder category."""
        dataset = self.assembly.dataset(name, within=within, leave_out=self.crowd_only)
        used = set(dataset.boxes.column("class_id").to_pylist()) if self.placeholders else set()
        unused = [i for i in self.placeholders if i not in used]
        if not unused:
            return dataset
        names = ", ".join(repr(dataset.class_names[i]) for i in unused)
        note = f"Category {names} has no box and is only the group of the others: it is left out."
        kept = [i for i in range(len(dataset.class_names)) if i not in unused]
        return dataclasses.replace(dataset.select_classes(kept), notes=(*dataset.notes, note))


@dataclasses.dataclass
class _File:
    files: CocoFiles
    raw: dict[str, Any]
    place: str
    bases: Bases
    split: Split
    rows: dict[Any, int] = dataclasses.field(default_factory=dict)
    """Maps an image id to its row, or `DROPPED`."""

    @property
    def assembly(self) -> Assembly:
        return self.files.assembly

    def read(self) -> None:
        classes = self._read_categories()
        self._read_images()
        if self.raw["annotations"]:
            self._read_annotations(classes)

    def _found(self, code: Code, where: str, message: str, images: tuple[str, ...] = ()) -> None:
        self.assembly.found(code, f"{self.place}: {where}", message, images)

    def _get(self, row: dict[str, Any], key: str, what: str, index: int, kinds: tuple[type, ...]) -> Any:
        value = row.get(key)
        if type(value) not in kinds:
            where = f"annotation {row['id']}" if what == "annotation" and "id" in row else f"{what} #{index + 1}"
            expected = " or ".join(dict.fromkeys(_kind(kind()) for kind in kinds))
            problem = f'lacks "{key}"' if key not in row else f'"{key}" must be a {expected}, but is a {_kind(value)}'
            raise AnnotationError(f"{self.place}: {where} {problem}; export the annotations again")
        return value

    def _read_categories(self) -> dict[Any, int]:
        named = []
        for index, row in enumerate(self.raw["categories"]):
            category_id = self._get(row, "id", "category", index, (int, str))
            named.append((category_id, self._get(row, "name", "category", index, (str,)).strip()))
        classes: dict[Any, int] = {}
        for category_id, name in sorted(named, key=lambda pair: (isinstance(pair[0], str), pair[0])):
            if category_id in classes:
                self._found(
                    Code.DUPLICATE_ID,
                    f"category {category_id}",
                    f"duplicate id; {name!r} is left out; give each category its own id",
                )
                continue
            classes[category_id] = self.assembly.classes.id_of(name, self.place)
        self._find_placeholder(classes)
        return classes

    def _find_placeholder(self, classes: dict[Any, int]) -> None:
        """Find category 0 of a Roboflow export, which names the project, groups the others and never has a box."""
        groups = [row.get("supercategory") for row in self.raw["categories"] if row["id"] != 0]
        for row in self.raw["categories"]:
            if row["id"] == 0 and groups and all(group == row["name"] for group in groups):
                self.files.placeholders.add(classes[0])

    def _read_images(self) -> None:
        entries: list[ImageEntry] = []
        ids: list[Any] = []
        for index, entry in enumerate(self.raw["images"]):
            image_id = self._get(entry, "id", "image", index, (int, str))
            key = "coco_url" if "file_name" not in entry and "coco_url" in entry else "file_name"  # LVIS has coco_url
            declared = self._get(entry, key, "image", index, (str,))
            if image_id in self.rows:
                message = f"duplicate id; {declared!r} is left out; give each image its own id"
                self._found(Code.DUPLICATE_ID, f"image {image_id}", message, (declared,))
                self.assembly.claim(declared, self.bases)
                continue
            self.rows[image_id] = DROPPED
            ids.append(image_id)
            width, height = self._size(entry, "width", index), self._size(entry, "height", index)
            entries.append(ImageEntry(declared, f"{self.place}: image {image_id}", self.split, width, height))
        self.rows.update(zip(ids, self.assembly.add_images(entries, self.bases), strict=True))

    def _size(self, entry: dict[str, Any], key: str, index: int) -> int:
        value = entry.get(key)
        if type(value) is int and 0 <= value <= _MAX_INT32:  # the common case, for each of a hundred thousand images
            return value
        if value is None:
            return 0
        if type(value) is float and 0 <= value <= _MAX_INT32 and value == int(value):
            return int(value)
        raise AnnotationError(
            f'{self.place}: image #{index + 1} has "{key}": {value!r}; write its pixels as a whole number'
        )

    def _read_annotations(self, classes: dict[Any, int]) -> None:
        annotations = self.raw["annotations"]
        rows = self._column("image_id", self.rows)
        class_ids = self._column("category_id", classes)
        crowd = np.array(list(map(bool, [a.get("iscrowd") for a in annotations])))
        if self.files.crowds_are_objects:
            crowd[:] = False
        xywh = self._xywh()
        with np.errstate(over="ignore", invalid="ignore"):
            xywh = self._in_pixels(xywh, rows)
            xyxy = np.column_stack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]])
            bad = ~np.isfinite(xyxy).all(axis=1) | (xywh[:, 2:] < 0).any(axis=1)
        source_ids = [str(a["id"]) if "id" in a else f"#{i}" for i, a in enumerate(annotations, 1)]
        self._report_annotations(rows, class_ids, bad & ~crowd, source_ids)
        self._report_crowds(rows, crowd)
        usable = (rows >= 0) & (class_ids >= 0) & ~bad & ~crowd
        usable &= self._first_of_copies(rows, class_ids, xywh, source_ids)
        keep = np.flatnonzero(usable)
        ids = source_ids if len(keep) == len(source_ids) else [source_ids[i] for i in keep]
        self.assembly.add_boxes(rows[keep], class_ids[keep].astype(np.int32), xyxy[keep], ids)

    def _in_pixels(self, xywh: npt.NDArray[np.float64], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Scale the boxes of a file in which every number is a fraction of the image, as Azure writes them."""
        finite = xywh[np.isfinite(xywh).all(axis=1) & (rows >= 0)]
        if not len(finite) or finite.min() < 0 or (finite[:, :2] + finite[:, 2:]).max() > _WHOLE_FRACTION:
            return xywh
        if (finite == finite.round()).all():  # no evidence: all boxes are empty or exactly the first pixel
            return xywh
        sizes = np.array([self.assembly.size_of(row) if row >= 0 else (0, 0) for row in rows.tolist()], np.float64)
        self.assembly.notes.append(f"{self.place}: all boxes are fractions of their images, and are scaled to pixels.")
        return xywh * np.hstack([sizes, sizes])

    def _report_crowds(self, rows: npt.NDArray[np.int64], crowd: npt.NDArray[np.bool_]) -> None:
        if not crowd.any():
            return
        self.assembly.notes.append(
            f"{self.place}: {counted(int(crowd.sum()), 'crowd annotation')} (iscrowd) left out: they outline groups."
        )
        only = set(rows[crowd & (rows >= 0)].tolist()) - set(rows[~crowd].tolist())
        if only:
            keys = tuple(self.assembly.keys[row] for row in sorted(only))
            self._found(
                Code.CROWD_ONLY,
                counted(len(keys), "image"),
                "only crowd annotations (iscrowd: 1), left out, as they would count as background: "
                f"{examples(keys, 12)}; set data.crowds: objects if each outlines one object",
                keys,
            )
            self.files.crowd_only |= only

    def _first_of_copies(
        self,
        rows: npt.NDArray[np.int64],
        class_ids: npt.NDArray[np.int64],
        xywh: npt.NDArray[np.float64],
        source_ids: list[str],
    ) -> npt.NDArray[np.bool_]:
        """Give annotations that share an id new ids; return False for true copies: same id, image, class and box."""
        keep = np.ones(len(source_ids), np.bool_)
        if len(set(source_ids)) == len(source_ids):
            return keep
        repeated = {i for i, count in Counter(source_ids).items() if count > 1}
        seen: dict[str, list[tuple[int, int, tuple[float, ...]]]] = {}
        for i, source_id in enumerate(source_ids):
            if source_id not in repeated:
                continue
            known = seen.setdefault(source_id, [])
            box = (int(rows[i]), int(class_ids[i]), tuple(xywh[i].tolist()))
            keep[i] = box not in known
            if known and keep[i]:
                source_ids[i] = f"{source_id}#{len(known) + 1}"
            known.append(box)
        copies = int((~keep).sum())
        dropped = (
            f"; {counted(copies, 'true copy', 'true copies')} (same image, class and box) left out" if copies else ""
        )
        self.assembly.notes.append(
            f"{self.place}: {counted(len(repeated), 'annotation id repeats', 'annotation ids repeat')} "
            f"({examples(sorted(repeated, key=lambda i: (len(i), i)))}), and each annotation has an id of its own now"
            f"{dropped}."
        )
        return keep

    def _column(self, key: str, mapping: dict[Any, int]) -> npt.NDArray[np.int64]:
        try:
            values = [mapping.get(a[key], _UNKNOWN) for a in self.raw["annotations"]]
        except (KeyError, TypeError):
            for index, annotation in enumerate(self.raw["annotations"]):
                self._get(annotation, key, "annotation", index, (int, str, float, bool))
            raise
        return np.fromiter(values, np.int64, len(values))

    def _xywh(self) -> npt.NDArray[np.float64]:
        """Return (M, 4); a row of NaN where there is no box."""
        raw = [a.get("bbox") for a in self.raw["annotations"]]
        for index, box in enumerate(raw) if not all(raw) else ():
            if not box:
                raw[index] = self._box_of_shape(index)
        if set(map(type, raw)) <= {list} and set(map(len, raw)) <= {4}:
            numbers = list(chain.from_iterable(raw))
            if set(map(type, numbers)) <= {int, float}:
                try:
                    return np.fromiter(numbers, np.float64, len(numbers)).reshape(-1, 4)
                except OverflowError:
                    return np.array(list(map(_clamp, numbers))).reshape(-1, 4)
        at = next(i for i, box in enumerate(raw) if not _is_numbers(box) or len(box) != 4)
        source_id = self.raw["annotations"][at].get("id", f"#{at + 1}")
        raise AnnotationError(
            f'{self.place}: annotation {source_id}: "bbox" must be four numbers '
            f"[x, y, width, height], but is {_short(raw[at])}; export the annotations again"
        )

    def _box_of_shape(self, index: int) -> list[float]:
        annotation = self.raw["annotations"][index]
        shape = annotation.get("segmentation")
        if isinstance(shape, dict):
            return _box_of_mask(shape)
        if not isinstance(shape, list):
            return [float("nan")] * 4
        polygons = [p for p in shape if p != []]
        if not all(_is_numbers(p) and len(p) % 2 == 0 for p in polygons):
            raise AnnotationError(
                f'{self.place}: annotation {annotation.get("id", f"#{index + 1}")}: "segmentation" must be lists of '
                f"numbers x, y, x, y, …, but is {_short(polygons)}; export the annotations again"
            )
        if not polygons:
            return [float("nan")] * 4
        points = [_clamp(v) for v in chain.from_iterable(polygons)]
        xs, ys = points[0::2], points[1::2]
        if not np.isfinite(points).all():
            return [float("nan")] * 4
        return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]

    def _report_annotations(
        self,
        rows: npt.NDArray[np.int64],
        class_ids: npt.NDArray[np.int64],
        bad: npt.NDArray[np.bool_],
        source_ids: list[str],
    ) -> None:
        annotations = self.raw["annotations"]
        for i in np.flatnonzero(rows == _UNKNOWN):
            self._found(
                Code.UNKNOWN_IMAGE,
                f"annotation {source_ids[i]}",
                f'refers to image {annotations[i]["image_id"]!r}, which is not in "images"; remove it or add the image',
            )
        for i in np.flatnonzero((class_ids == _UNKNOWN) & (rows != _UNKNOWN)):
            self._found(
                Code.UNKNOWN_CATEGORY,
                f"annotation {source_ids[i]}",
                f'refers to category {annotations[i]["category_id"]!r}, which is not in "categories"; add or remove it',
                self._key(rows[i]),
            )
        for i in np.flatnonzero(bad):
            box = annotations[i].get("bbox")
            problem = (
                f"box {_short(box)} is not finite or has a negative size" if box else "has no box, polygon or mask"
            )
            self._found(
                Code.BAD_BOX, f"annotation {source_ids[i]}", f"{problem}; redraw or remove it", self._key(rows[i])
            )

    def _key(self, row: int) -> tuple[str, ...]:
        return (self.assembly.keys[row],) if row >= 0 else ()


def _box_of_mask(mask: dict[str, Any]) -> list[float]:
    """Return the box of a run-length mask, ``[x, y, width, height]``; NaN if it is empty or malformed.

    Runs go down the columns, background first. A string packs them like pycocotools (`rleFrString`): differences to the
    run before the last, in groups of five bits.
    """
    nothing = [float("nan")] * 4
    size, counts = mask.get("size"), mask.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(type(v) is int and 0 < v <= _MAX_INT32 for v in size):
        return nothing
    runs = _unpack_runs(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and 0 <= run <= _MAX_INT32 for run in runs):
        return nothing
    height = size[0]
    ends = np.cumsum(np.array(runs, np.int64))
    starts, ends = ends[0::2][: len(runs) // 2], ends[1::2]
    full = ends > starts
    starts, last = starts[full], ends[full] - 1
    if not len(starts) or last.max() >= height * size[1]:
        return nothing
    x1, x2 = int((starts // height).min()), int((last // height).max()) + 1
    wraps = (starts // height) != (last // height)  # a run beyond the end of a column touches both borders
    tops = np.where(wraps, 0, starts % height)
    bottoms = np.where(wraps, height - 1, last % height)
    y1, y2 = int(tops.min()), int(bottoms.max()) + 1
    return [float(v) for v in (x1, y1, x2 - x1, y2 - y1)]


def _unpack_runs(text: str) -> list[int] | None:
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 60:
            return None
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs


def _kind(value: Any) -> str:
    names = {dict: "object", list: "list", str: "string", int: "number", float: "number", bool: "boolean"}
    return names.get(type(value), "null")


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and set(map(type, value)) <= {int, float}


def _clamp(value: float) -> float:
    """Return a JSON number as float; integers that float64 cannot hold become infinite."""
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
