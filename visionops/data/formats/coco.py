"""COCO annotations in two shapes: a file per product and split (VISION), or one file for all (TACO).

A COCO box is ``[x, y, width, height]`` from the upper left corner, in pixels, continuous: ``x2 = x + width``.
Crowd annotations (``iscrowd``) outline groups, not objects: they are left out, and a note says how many.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import gc
import json
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from visionops.data.dataset import Dataset, Split
from visionops.data.files import FileInfo, describe_os_error, safe_name, walk_files
from visionops.data.findings import Code, Finding
from visionops.errors import AnnotationError, DataError

__all__ = ["ANNOTATION_FILE", "read_coco", "read_vision"]

ANNOTATION_FILE = "_annotations.coco.json"
"""Name of the annotation file beside the images in the VISION shape."""

# In reading order: the first spelling of a class name, and the order of classes, come from train. "valid" and "test"
# are how exports of labelling tools name their folders.
_SPLIT_FOLDERS = {
    "train": Split.TRAIN,
    "val": Split.VAL,
    "valid": Split.VAL,
    "test": Split.TEST,
    "inference": Split.UNLABELLED,
}
_MAX_INT32 = 2**31 - 1
_UNKNOWN, _DROPPED = -1, -2


def read_vision(root: Path, name: str, products: tuple[str, ...] | None = None) -> Dataset:
    """Read ``{product}/{train,val,inference}/_annotations.coco.json`` beside the images.

    ``root`` may also be one product. ``inference`` is unlabelled, or test where it has annotations.
    Classes are those of all products taken, merged case-insensitively; in order of products, splits and category ids.

    Args:
        products: Folders to take; all when None.

    Raises:
        AnnotationError: An annotation file is absent or malformed as a whole.
        DataError: A product is not there.
    """
    table = _Table()
    for prefix in _products(root, products):
        for folder, split in _SPLIT_FOLDERS.items():
            place = f"{prefix}{folder}/"
            if (root / place).is_dir():
                with _paused_gc():
                    _read_split(root, place, split, table)
    return table.dataset(name)


def read_coco(root: Path, name: str, annotations: str) -> Dataset:
    """Read one COCO file with images in sub-folders; no split is given.

    File names are relative to the folder of the JSON file, or, where the first image is not found there, to ``root``
    or ``root/images``.

    Raises:
        AnnotationError: The file is absent or malformed as a whole.
    """
    with _paused_gc():
        return _read_one(root, name, annotations)


def _read_one(root: Path, name: str, annotations: str) -> Dataset:
    raw = _load(root / annotations, root)
    bases = [(root / annotations).parent, root, root / "images"]
    first = next((n for i in raw["images"] if isinstance(i, dict) and isinstance(n := i.get("file_name"), str)), "")
    base = next((b for b in bases if (b / first).is_file()), bases[0]) if first else bases[0]
    table = _Table()
    table.add(raw, annotations, base, "", Split.NONE)
    return table.dataset(name)


def _products(root: Path, wanted: tuple[str, ...] | None) -> list[str]:
    """Prefixes (``Steel/``, or ``""`` when root is itself a product) of the products to read."""
    if _is_product(root):
        found = {root.name: ""}
    else:
        try:
            folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
        except OSError as error:
            raise DataError(f"{root}: cannot be listed ({describe_os_error(error)}); check its permissions") from error
        found = {p.name: f"{p.name}/" for p in folders if _is_product(p)}
    known = ", ".join(found)
    if not found:
        raise AnnotationError(
            f"{root}: no {{product}}/{{train,val,inference}}/{ANNOTATION_FILE} below it; "
            "check data.source.path, or set data.format to coco, yolo or voc"
        )
    for product in wanted or ():
        if product not in found:
            near = difflib.get_close_matches(product.casefold(), [f.casefold() for f in found], n=1)
            hint = next(
                (f"did you mean {f!r}?" for f in found if near and f.casefold() == near[0]), f"there are: {known}"
            )
            raise DataError(f"data.products: {root} has no product {product!r}; {hint}")
    return [prefix for product, prefix in found.items() if wanted is None or product in wanted]


def _is_product(folder: Path) -> bool:
    return any((folder / split / ANNOTATION_FILE).is_file() for split in _SPLIT_FOLDERS)


def _read_split(root: Path, place: str, split: Split, table: _Table) -> None:
    folder, file = root / place, place + ANNOTATION_FILE
    if (root / file).is_file():
        raw = _load(root / file, root)
        if split is Split.UNLABELLED and raw["annotations"]:
            split = Split.TEST
            table.notes.append(f"{place} has annotations and is taken as the test split.")
        table.add(raw, file, folder, place, split)
        return
    files = [f for f in walk_files(folder) if f.is_image]
    if files and split is not Split.UNLABELLED:
        raise AnnotationError(
            f"{root / file}: not found, though {len(files)} images lie beside it; add the file or remove the folder"
        )
    entries = [{"id": i, "file_name": f.name} for i, f in enumerate(files)]
    table.add({"images": entries, "annotations": [], "categories": []}, file, folder, place, split)


def _load(path: Path, root: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        found = ", ".join(sorted(p.relative_to(root).as_posix() for p in root.glob("*.json"))[:5]) or "none"
        raise AnnotationError(f"{path}: not found; set data.annotations (JSON files in {root}: {found})") from error
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({describe_os_error(error)})") from error
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{path}: not valid JSON ({error}); export the annotations again") from error
    if not isinstance(raw, dict):
        raise AnnotationError(f"{path}: must be a COCO object, but is a {_kind(raw)}; export the annotations as COCO")
    for key in ("images", "annotations", "categories"):
        if key not in raw:
            raise AnnotationError(f'{path}: lacks "{key}"; export the annotations as COCO detection')
        rows = raw[key]
        if not isinstance(rows, list):
            raise AnnotationError(f'{path}: "{key}" must be a list, but is a {_kind(rows)}')
        if not set(map(type, rows)) <= {dict}:
            at = next(i for i, row in enumerate(rows) if not isinstance(row, dict))
            raise AnnotationError(f'{path}: "{key}"[{at}] must be an object, but is a {_kind(rows[at])}')
    return raw


@contextlib.contextmanager
def _paused_gc() -> Iterator[None]:
    """Half of the time of reading a large JSON went into looking for cycles, of which it has none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _kind(value: Any) -> str:
    names = {dict: "object", list: "list", str: "string", int: "number", float: "number", bool: "boolean"}
    return names.get(type(value), "null")


class _Table:
    """Columns that grow file by file."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.paths: list[str] = []
        self.num_bytes: list[int] = []
        self.widths: list[int] = []
        self.heights: list[int] = []
        self.splits: list[str] = []
        self.class_ids: dict[str, int] = {}
        self.class_names: list[str] = []
        self.boxes: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float64]]] = []
        self.source_ids: list[str] = []
        self.findings: list[Finding] = []
        self.notes: list[str] = []

    def dataset(self, name: str) -> Dataset:
        """What was gathered."""
        image = np.concatenate([b[0] for b in self.boxes]) if self.boxes else np.empty(0, np.int64)
        class_id = np.concatenate([b[1] for b in self.boxes]) if self.boxes else np.empty(0, np.int32)
        xyxy = np.concatenate([b[2] for b in self.boxes]) if self.boxes else np.empty((0, 4))
        images = {
            "key": self.keys,
            "path": self.paths,
            "num_bytes": self.num_bytes,
            "width": self.widths,
            "height": self.heights,
            "split": self.splits,
        }
        corners = {c: np.ascontiguousarray(xyxy[:, i]) for i, c in enumerate(("x1", "y1", "x2", "y2"))}
        boxes = {"image": image, "class_id": class_id, **corners, "source_id": self.source_ids}
        return Dataset.from_columns(name, self.class_names, images, boxes, self.notes, self.findings)

    def add(self, raw: dict[str, Any], place: str, folder: Path, prefix: str, split: Split) -> None:
        """Add one annotation file.

        Args:
            place: How messages name the file.
            folder: What file names are relative to.
            prefix: Put before file names to make keys.
        """
        _File(self, raw, place, folder, prefix, split).read()

    def class_of(self, name: str, place: str) -> int:
        """The id of a class, new or merged with one of another spelling."""
        folded = name.casefold()
        if folded not in self.class_ids:
            self.class_ids[folded] = len(self.class_names)
            self.class_names.append(name)
        known = self.class_names[self.class_ids[folded]]
        if known != name:
            self.notes.append(f"{place}: class {name!r} is merged with {known!r}.")
        return self.class_ids[folded]


@dataclasses.dataclass
class _File:
    table: _Table
    raw: dict[str, Any]
    place: str
    folder: Path
    prefix: str
    split: Split
    rows: dict[Any, int] = dataclasses.field(default_factory=dict)
    """Image id to row; `_DROPPED` for an image that was left out."""

    def read(self) -> None:
        classes = self._read_categories()
        self._read_images()
        if self.raw["annotations"]:
            self._read_annotations(classes)

    def _found(self, code: Code, where: str, message: str, images: tuple[str, ...] = ()) -> None:
        self.table.findings.append(Finding.of(code, f"{self.place}: {where}", message, images))

    def _get(self, row: dict[str, Any], key: str, where: str, kinds: tuple[type, ...]) -> Any:
        value = row.get(key)
        if type(value) not in kinds:
            expected = " or ".join(dict.fromkeys(_kind(kind()) for kind in kinds))
            problem = f'lacks "{key}"' if key not in row else f'"{key}" must be a {expected}, but is a {_kind(value)}'
            raise AnnotationError(f"{self.place}: {where} {problem}; export the annotations again")
        return value

    def _read_categories(self) -> dict[Any, int]:
        named = []
        for index, row in enumerate(self.raw["categories"]):
            where = f"category #{index + 1}"
            named.append((self._get(row, "id", where, (int, str)), self._get(row, "name", where, (str,)).strip()))
        classes: dict[Any, int] = {}
        for category_id, name in sorted(named, key=lambda pair: (isinstance(pair[0], str), pair[0])):
            if category_id in classes:
                self._found(
                    Code.DUPLICATE_ID,
                    f"category {category_id}",
                    f"stands twice; {name!r} is left out; give each category its own id",
                )
                continue
            classes[category_id] = self.table.class_of(name, self.place)
        return classes

    def _read_images(self) -> None:
        files = {f.name: f for f in walk_files(self.folder)} if self.folder.is_dir() else {}
        row_of_name: dict[str, int] = {}
        absent: list[str] = []
        for index, entry in enumerate(self.raw["images"]):
            where = f"image #{index + 1}"
            image_id = self._get(entry, "id", where, (int, str))
            declared = self._get(entry, "file_name", where, (str,))
            name = safe_name(declared)
            if name is None:
                self._found(
                    Code.UNSAFE_NAME,
                    f"image {image_id}",
                    f"file name {declared!r} is not a plain path below the folder; rename the file",
                )
                self.rows.setdefault(image_id, _DROPPED)
                continue
            if image_id in self.rows:
                self._found(
                    Code.DUPLICATE_ID,
                    f"image {image_id}",
                    f"stands twice; {name!r} is left out; give each image its own id",
                    (self.prefix + name,),
                )
                row_of_name.setdefault(name, _DROPPED)
                continue
            if row_of_name.get(name, _DROPPED) >= 0:
                self._found(
                    Code.DUPLICATE_NAME,
                    f"image {image_id}",
                    f"file name {name!r} is listed before; its boxes are joined; list each file once",
                    (self.prefix + name,),
                )
                self.rows[image_id] = row_of_name[name]
                continue
            self.rows[image_id] = row_of_name[name] = len(self.table.keys)
            self._add_image(name, entry, where, files.get(name))
            if name not in files:
                absent.append(name)
        self._report_files(files, row_of_name, absent)

    def _add_image(self, name: str, entry: dict[str, Any], where: str, file: FileInfo | None) -> None:
        table = self.table
        table.keys.append(self.prefix + name)
        table.paths.append(f"{self.folder}/{name}" if file else "")
        table.num_bytes.append(file.num_bytes if file else -1)
        table.widths.append(self._size(entry, "width", where))
        table.heights.append(self._size(entry, "height", where))
        table.splits.append(self.split.value)

    def _size(self, entry: dict[str, Any], key: str, where: str) -> int:
        value = entry.get(key)
        if value is None:
            return 0
        if type(value) in (int, float) and 0 <= value <= _MAX_INT32 and value == int(value):
            return int(value)
        raise AnnotationError(f'{self.place}: {where} has "{key}": {value!r}; write its pixels as a whole number')

    def _report_files(self, files: dict[str, FileInfo], row_of_name: dict[str, int], absent: list[str]) -> None:
        if absent:
            spelled = {name.casefold(): name for name in files}
            for name in absent:
                other = spelled.get(name.casefold())
                mend = f"there is {other!r}: make the names equal" if other else "add the file or remove the entry"
                self._found(
                    Code.MISSING_IMAGE, f"image {name}", f"the file is not there; {mend}", (self.prefix + name,)
                )
        for name, file in files.items():
            if name not in row_of_name and file.is_image:
                self.table.findings.append(
                    Finding.of(
                        Code.ORPHAN_IMAGE,
                        self.prefix + name,
                        f"not listed in {self.place}; it is left out; list it or remove it",
                        (self.prefix + name,),
                    )
                )

    def _read_annotations(self, classes: dict[Any, int]) -> None:
        annotations = self.raw["annotations"]
        rows = self._column("image_id", self.rows)
        class_ids = self._column("category_id", classes)
        crowd = np.array([bool(a.get("iscrowd")) for a in annotations])
        xywh = self._xywh()
        with np.errstate(over="ignore", invalid="ignore"):
            xyxy = np.column_stack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]])
            bad = ~np.isfinite(xyxy).all(axis=1) | (xywh[:, 2:] < 0).any(axis=1)
        source_ids = [str(a.get("id", f"#{i + 1}")) for i, a in enumerate(annotations)]
        self._report_annotations(rows, class_ids, bad & ~crowd, source_ids)
        if crowd.any():
            self.table.notes.append(
                f"{self.place}: {int(crowd.sum())} crowd annotations (iscrowd) are left out: they outline groups."
            )
        keep = np.flatnonzero((rows >= 0) & (class_ids >= 0) & ~bad & ~crowd)
        self.table.boxes.append((rows[keep], class_ids[keep].astype(np.int32), xyxy[keep]))
        self.table.source_ids += source_ids if len(keep) == len(source_ids) else [source_ids[i] for i in keep]

    def _column(self, key: str, mapping: dict[Any, int]) -> npt.NDArray[np.int64]:
        try:
            values = [mapping.get(a[key], _UNKNOWN) for a in self.raw["annotations"]]
        except (KeyError, TypeError):
            for index, annotation in enumerate(self.raw["annotations"]):
                self._get(
                    annotation, key, f"annotation {annotation.get('id', f'#{index + 1}')}", (int, str, float, bool)
                )
            raise
        return np.array(values, dtype=np.int64)

    def _xywh(self) -> npt.NDArray[np.float64]:
        """(M, 4); a row of NaN where there is no box."""
        raw = [a.get("bbox") for a in self.raw["annotations"]]
        for index, box in enumerate(raw):
            if not box:
                raw[index] = self._box_of_polygons(index)
        shaped = set(map(type, raw)) <= {list} and set(map(len, raw)) <= {4}
        if shaped and set(map(type, chain.from_iterable(raw))) <= {int, float}:
            try:
                return np.array(raw, dtype=np.float64)
            except OverflowError:
                return np.array([[_clamp(v) for v in box] for box in raw])
        at = next(i for i, box in enumerate(raw) if not _is_numbers(box) or len(box) != 4)
        source_id = self.raw["annotations"][at].get("id", f"#{at + 1}")
        raise AnnotationError(
            f'{self.place}: annotation {source_id}: "bbox" must be four numbers '
            f"[x, y, width, height], but is {_short(raw[at])}; export the annotations again"
        )

    def _box_of_polygons(self, index: int) -> list[float]:
        annotation = self.raw["annotations"][index]
        polygons = annotation.get("segmentation")
        if not isinstance(polygons, list):  # run-length masks come from crowds, or from tools that also write the box
            return [float("nan")] * 4
        polygons = [p for p in polygons if p != []]
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
                f"box {_short(box)} is not finite or has a negative size" if box else "has neither box nor polygon"
            )
            self._found(
                Code.BAD_BOX, f"annotation {source_ids[i]}", f"{problem}; redraw or remove it", self._key(rows[i])
            )
        ids = [a["id"] for a in annotations if type(a.get("id")) in (int, str)]
        if len(set(ids)) < len(ids):
            for twice, count in Counter(ids).items():
                if count > 1:
                    self._found(
                        Code.DUPLICATE_ID,
                        f"annotation {twice}",
                        f"stands {count} times; give each annotation its own id",
                    )

    def _key(self, row: int) -> tuple[str, ...]:
        return (self.table.keys[row],) if row >= 0 else ()


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and set(map(type, value)) <= {int, float}


def _clamp(value: float) -> float:
    """JSON integers have no limit; what no float64 holds is infinite."""
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
