"""Pascal VOC: ``Annotations/*.xml``, ``JPEGImages/`` and, if there, ``ImageSets/Main/{train,val,test,trainval}.txt``.

VOC counts pixels from 1 and includes the last one; we use continuous coordinates from 0. A VOC box becomes
``(xmin - 1, ymin - 1, xmax, ymax)``: a box over the whole of a 200 x 200 image, 1 to 200, is 0 to 200 here.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from visionops.config import DataConfig
from visionops.data.dataset import Dataset, Split
from visionops.data.files import FileInfo, describe_os_error, file_header, safe_name, walk_files
from visionops.data.findings import Code, Finding
from visionops.data.formats.protocol import Evidence, Strength
from visionops.data.listing import Listing
from visionops.errors import AnnotationError, ImageError

__all__ = ["detect", "read", "read_voc"]

# The first list that names an image decides; "trainval" matters only to images in neither train nor val.
_LISTS = {"train": Split.TRAIN, "val": Split.VAL, "test": Split.TEST, "trainval": Split.TRAIN}
_MAX_INT32 = 2**31 - 1


def detect(listing: Listing, data: DataConfig) -> Evidence | None:
    """Find XML files in a folder ``Annotations``."""
    del data
    files = [name for name in listing.by_suffix.get(".xml", ()) if "Annotations/" in name]
    return Evidence(Strength.SURE, "Pascal VOC", (f"{files[0]} is there",)) if files else None


def read(listing: Listing, data: DataConfig, name: str) -> Dataset:
    """Read a VOC folder."""
    del data
    return read_voc(listing.root, name)


def read_voc(root: Path, name: str) -> Dataset:
    """Read a VOC folder, or the one that lies below ``root`` (``VOCdevkit/VOC2007``).

    Class names are in alphabetical order. Where lists of splits are given, images in none of them are left out.

    Raises:
        AnnotationError: A folder or file is absent, is not XML, or lacks what VOC demands.
    """
    base = _find(root)
    prefix = "" if base == root else base.relative_to(root).as_posix() + "/"
    reader = _Reader(base, prefix)
    for file in sorted((base / "Annotations").glob("*.xml")):
        reader.read_file(file)
    reader.report_files()
    return reader.dataset(name)


def _find(root: Path) -> Path:
    found = [
        p.parent for pattern in ("", "*/", "*/*/") for p in sorted(root.glob(f"{pattern}Annotations")) if p.is_dir()
    ]
    if not found:
        raise AnnotationError(
            f"{root / 'Annotations'}: not found; point data.source.path at a VOC folder, or set data.format"
        )
    if len(found) > 1:
        names = ", ".join(p.relative_to(root).as_posix() for p in found)
        raise AnnotationError(f"{root}: holds {len(found)} VOC folders ({names}); point data.source.path at one")
    if not any(found[0].joinpath("Annotations").glob("*.xml")):
        raise AnnotationError(f"{found[0] / 'Annotations'}: holds no XML files; export the annotations as Pascal VOC")
    return found[0]


class _Reader:
    def __init__(self, base: Path, prefix: str) -> None:
        self.base = base
        self.prefix = prefix
        images = base / "JPEGImages"
        if not images.is_dir():
            raise AnnotationError(f"{images}: not found; put the images there")
        self.files = {f.name: f for f in walk_files(images)}
        self.by_stem = {str(PurePosixPath(n).with_suffix("")): n for n, f in self.files.items() if f.is_image}
        self.findings: list[Finding] = []
        self.splits = self._read_lists()
        self.row: dict[str, int] = {}
        self.stems: set[str] = set()
        self.left_out: set[str] = set()
        self.columns: dict[str, list[Any]] = {c: [] for c in ("key", "path", "num_bytes", "width", "height", "split")}
        self.boxes: list[tuple[int, float, float, float, float]] = []
        self.box_classes: list[str] = []
        self.source_ids: list[str] = []

    def dataset(self, name: str) -> Dataset:
        class_names = sorted(set(self.box_classes))
        class_ids = {c: i for i, c in enumerate(class_names)}
        table = np.array(self.boxes, dtype=np.float64).reshape(-1, 5)
        boxes = {
            "image": table[:, 0].astype(np.int64),
            "class_id": np.array([class_ids[c] for c in self.box_classes], dtype=np.int32),
            **{c: table[:, 1 + i] for i, c in enumerate(("x1", "y1", "x2", "y2"))},
            "source_id": self.source_ids,
        }
        return Dataset.from_columns(name, class_names, self.columns, boxes, findings=self.findings)

    def _read_lists(self) -> dict[str, tuple[Split, str]] | None:
        """Image stem to split and the place that says so; None when there are no lists."""
        splits: dict[str, tuple[Split, str]] = {}
        twice: dict[tuple[str, str], list[str]] = {}
        found = False
        for list_name, split in _LISTS.items():
            file = self.base / "ImageSets" / "Main" / f"{list_name}.txt"
            if not file.is_file():
                continue
            found = True
            for number, line in enumerate(_read_text(file).splitlines(), start=1):
                stem = _stem_of(line)
                if not stem:
                    continue
                if stem not in splits:
                    splits[stem] = (split, f"{self.prefix}ImageSets/Main/{list_name}.txt:{number}")
                elif list_name != "trainval" and splits[stem][0] is not split:
                    twice.setdefault((splits[stem][0].value, list_name), []).append(stem)
        for (first, second), stems in twice.items():
            message = f"{len(stems)} images stand in {first} and in {second}; the first is kept; list each image once"
            where = f"{self.prefix}ImageSets/Main/{second}.txt"
            self._found(Code.DUPLICATE_NAME, where, message, tuple(self._key(self.by_stem.get(s, s)) for s in stems))
        return splits if found else None

    def _found(self, code: Code, where: str, message: str, images: tuple[str, ...] = ()) -> None:
        self.findings.append(Finding.of(code, where, message, images))

    def _key(self, name: str) -> str:
        return f"{self.prefix}JPEGImages/{name}"

    def read_file(self, file: Path) -> None:
        place = f"{self.prefix}Annotations/{file.name}"
        self.stems.add(file.stem)
        root = _parse(file)
        declared = (root.findtext("filename") or "").strip()
        name = safe_name(declared) if declared else file.stem
        if name is None:
            message = f"file name {declared!r} is not a plain path below JPEGImages; rename the file"
            self._found(Code.UNSAFE_NAME, place, message)
            self.left_out.add(self.by_stem.get(file.stem, ""))
            return
        # Tools often leave an older name in <filename>: the name of the XML file is the rule of VOC.
        name = name if name in self.files else self.by_stem.get(file.stem, name)
        if self.splits is not None and file.stem not in self.splits:
            return
        if name in self.row:
            message = f"{name} has another annotation file; the boxes are joined; keep one file per image"
            self._found(Code.DUPLICATE_NAME, place, message, (self._key(name),))
        else:
            self._add_image(name, root, file, place)
        for number, obj in enumerate(root.iterfind("object"), start=1):
            self._read_object(self.row[name], obj, file, f"{place}: object {number}")

    def _add_image(self, name: str, root: ET.Element, file: Path, place: str) -> None:
        found: FileInfo | None = self.files.get(name)
        if found is None:
            message = f"JPEGImages/{name} is not there; add the image or remove the file"
            self._found(Code.MISSING_IMAGE, place, message, (self._key(name),))
        width, height = (_size(root, tag, file) for tag in ("width", "height"))
        path = self.base / "JPEGImages" / name
        if found and not (width and height):
            try:
                header = file_header(path, self._key(name))
                width, height = header.width, header.height
            except ImageError:
                pass  # validation decodes every image and says what is wrong with this one
        self.row[name] = len(self.row)
        split = self.splits[file.stem][0] if self.splits is not None else Split.NONE
        values = (
            self._key(name),
            str(path) if found else "",
            found.num_bytes if found else -1,
            width,
            height,
            split.value,
        )
        for column, value in zip(self.columns.values(), values, strict=True):
            column.append(value)

    def _read_object(self, row: int, obj: ET.Element, file: Path, place: str) -> None:
        class_name = (obj.findtext("name") or "").strip()
        box = obj.find("bndbox")
        if not class_name or box is None:
            lacking = "name" if not class_name else "bndbox"
            raise AnnotationError(f"{file}: {place.rpartition(': ')[2]} lacks <{lacking}>; add it or remove the object")
        corners = []
        for tag in ("xmin", "ymin", "xmax", "ymax"):
            text = (box.findtext(tag) or "").strip()
            try:
                corners.append(float(text))
            except ValueError as error:
                where = place.rpartition(": ")[2]
                raise AnnotationError(
                    f"{file}: {where}: <{tag}> must be a number, but is {text!r}; correct it"
                ) from error
        x1, y1, x2, y2 = corners[0] - 1, corners[1] - 1, corners[2], corners[3]
        if not np.isfinite(corners).all() or x2 < x1 or y2 < y1:
            message = f"box {corners} is not finite or has a negative size; redraw or remove it"
            self._found(Code.BAD_BOX, place, message, (self.columns["key"][row],))
            return
        self.boxes.append((row, x1, y1, x2, y2))
        self.box_classes.append(class_name)
        self.source_ids.append(place)

    def report_files(self) -> None:
        """Images without an entry, and entries of lists without an annotation file."""
        for name, file in self.files.items():
            if file.is_image and name not in self.row and name not in self.left_out:
                why = "no annotation file, or no list, names it"
                self._found(
                    Code.ORPHAN_IMAGE,
                    self._key(name),
                    f"{why}; it is left out; add it or remove it",
                    (self._key(name),),
                )
        for stem, (_, where) in (self.splits or {}).items():
            if stem not in self.stems:
                message = f"names {stem}, which has no Annotations/{stem}.xml; add the file or remove the line"
                self._found(Code.UNKNOWN_IMAGE, where, message)


def _stem_of(line: str) -> str:
    """``000005  1`` -> ``000005``: lists of one class carry a flag."""
    head, _, flag = line.strip().rpartition(" ")
    return head.strip() if flag in ("-1", "0", "1") and head.strip() else line.strip()


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise AnnotationError(f"{file}: cannot be read ({describe_os_error(error)})") from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{file}: not a text file; write one image name a line") from error


def _parse(file: Path) -> ET.Element:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise AnnotationError(f"{file}: cannot be read ({describe_os_error(error)})") from error
    try:
        _refuse_entities(data, file)
        root = ET.fromstring(data)  # noqa: S314 - see _refuse_entities
    except (ET.ParseError, ValueError, LookupError) as error:
        raise AnnotationError(f"{file}: not valid XML ({error}); export the annotations again") from error
    if root.tag != "annotation":
        raise AnnotationError(f"{file}: the root must be <annotation>, but is <{root.tag}>; export as Pascal VOC")
    return root


def _refuse_entities(data: bytes, file: Path) -> None:
    """No VOC file defines entities; those that do swell to gigabytes when they are parsed."""
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data or b"\x00" in data:
        raise AnnotationError(f"{file}: defines entities or is no UTF-8 text; export as plain Pascal VOC")


def _size(root: ET.Element, tag: str, file: Path) -> int:
    text = (root.findtext(f"size/{tag}") or "0").strip()
    try:
        value = float(text)
        if 0 <= value <= _MAX_INT32 and value == int(value):
            return int(value)
    except ValueError:
        pass
    raise AnnotationError(f"{file}: <{tag}> must be a number of pixels, but is {text!r}; correct it")
