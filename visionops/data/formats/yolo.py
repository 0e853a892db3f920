"""YOLO layout: ``data.yaml``, ``images/…`` and a text file per image in ``labels/…``.

A line is ``class cx cy width height`` in fractions of the image, or ``class x y x y x y …``, a polygon. Pixels need the
size of the image, which no file declares: it is read from the image's header (after EXIF rotation).
"""

from __future__ import annotations

import math
import posixpath
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from visionops.config import DataConfig
from visionops.data.dataset import Dataset, Split
from visionops.data.files import FileInfo, describe_os_error, file_header, safe_name, walk_files
from visionops.data.findings import Code, Finding
from visionops.data.formats.protocol import Evidence, Strength
from visionops.data.listing import Listing
from visionops.errors import AnnotationError, ImageError

__all__ = ["DATA_FILE", "SPLIT_FOLDERS", "detect", "read", "read_yolo"]

DATA_FILE = "data.yaml"

_SPLIT_KEYS = {
    "train": Split.TRAIN,
    "val": Split.VAL,
    "validation": Split.VAL,
    "test": Split.TEST,
    # Ours alone, so that what was written reads back whole; trainers do not look at them.
    "unlabelled": Split.UNLABELLED,
    "all": Split.NONE,
}
SPLIT_FOLDERS = {s: key for key, s in _SPLIT_KEYS.items() if key != "validation"}
"""The key of a split in ``data.yaml``, which is also the name of its folder."""
_MAX_FRACTION = 2.0
"""Boxes reach over the border by a little; a larger number is a pixel, not a fraction."""


def detect(listing: Listing, data: DataConfig) -> Evidence | None:
    """Find ``data.yaml``."""
    del data
    file = listing.find(DATA_FILE) or listing.find("data.yml")
    return Evidence(Strength.SURE, "YOLO", (f"{file} is there",)) if file else None


def read(listing: Listing, data: DataConfig, name: str) -> Dataset:
    """Read ``data.yaml`` and what it names."""
    del data
    return read_yolo(listing.root, name)


def read_yolo(root: Path, name: str) -> Dataset:
    """Read ``data.yaml`` and what it names, below ``root`` only.

    An empty or absent label file is an image without objects. Images are in order of splits and names.

    Raises:
        AnnotationError: ``data.yaml`` is absent or malformed, or names what is not there; a label file is not text.
    """
    file = _find_data_file(root)
    settings = _load_settings(file)
    reader = _Reader(root, _base(root, file, settings), file.name, _class_names(settings, file))
    for key, split in _SPLIT_KEYS.items():
        entries = settings.get(key)
        for entry in entries if isinstance(entries, list) else [entries] if entries else []:
            reader.read_entry(key, split, entry)
    if not reader.keys and not any(settings.get(key) for key in _SPLIT_KEYS):
        raise AnnotationError(f'{file}: names no images; add "train: images/train"')
    return reader.dataset(name)


def _find_data_file(root: Path) -> Path:
    for file in (root / DATA_FILE, root / "data.yml"):
        if file.is_file():
            return file
    others = sorted([*root.glob("*.yaml"), *root.glob("*.yml")])
    if len(others) == 1:
        return others[0]
    found = f"there are {', '.join(p.name for p in others)}: rename one" if others else "add it"
    raise AnnotationError(f"{root / DATA_FILE}: not found; {found}, or set data.format")


def _load_settings(file: Path) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise AnnotationError(f"{file}: cannot be read ({describe_os_error(error)})") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise AnnotationError(f"{file}:{line}: not valid YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise AnnotationError(f"{file}: not a YAML text; write train, val and names") from error
    if not isinstance(settings, dict):
        raise AnnotationError(f"{file}: must be a mapping with train, val and names")
    for key in _SPLIT_KEYS:
        entries = settings.get(key)
        parts = entries if isinstance(entries, list) else [entries]
        if entries is not None and not all(isinstance(part, str) for part in parts):
            raise AnnotationError(f"{file}: {key!r} must be a folder, a list file or a list of them")
    return settings


def _class_names(settings: dict[str, Any], file: Path) -> dict[int, str]:
    """Class id in the label files to name."""
    names = settings.get("names")
    pairs = (
        list(enumerate(names)) if isinstance(names, list) else list(names.items()) if isinstance(names, dict) else []
    )
    try:
        result = {int(key): str(value) for key, value in pairs}
    except (TypeError, ValueError) as error:
        raise AnnotationError(f"{file}: the keys of 'names' must be whole numbers") from error
    if not result or any(isinstance(value, dict | list) or value is None for _, value in pairs):
        raise AnnotationError(f"{file}: 'names' must list the class names, such as [scratch, pit]")
    if len({value.casefold() for value in result.values()}) < len(pairs):
        raise AnnotationError(f"{file}: 'names' has the same name or number twice; give each class its own")
    if settings.get("nc") is not None and settings["nc"] != len(result):
        raise AnnotationError(f"{file}: 'nc' is {settings['nc']!r}, but 'names' has {len(result)}; make them agree")
    return dict(sorted(result.items()))


def _base(root: Path, file: Path, settings: dict[str, Any]) -> str:
    """What entries are relative to, relative to root: ``path`` where that lies below root, else root itself.

    ``path`` often names a folder of the machine that wrote the file.
    """
    path = settings.get("path")
    if path is None:
        return ""
    if not isinstance(path, str):
        raise AnnotationError(f"{file}: 'path' must be a folder")
    base = _below(root, "", path)
    return base if base is not None and (root / base).is_dir() else ""


def _below(root: Path, base: str, entry: str) -> str | None:
    """``entry``, relative to ``base``, as a path relative to root; None when it leaves root. Links are not followed."""
    relative = posixpath.relpath(posixpath.normpath(posixpath.join(root.as_posix(), base, entry)), root.as_posix())
    return None if relative == ".." or relative.startswith("../") else "" if relative == "." else relative


class _Reader:
    def __init__(self, root: Path, base: str, file: str, class_names: dict[int, str]) -> None:
        self.root = root
        self.base = base
        self.file = file
        self.names = class_names
        self.class_ids = {number: i for i, number in enumerate(class_names)}
        self.files = {f.name: f for f in walk_files(root)}
        self.row: dict[str, int] = {}
        self.keys: list[str] = []
        self.columns: dict[str, list[Any]] = {c: [] for c in ("path", "num_bytes", "width", "height", "split", "plain")}
        self.boxes: list[tuple[int, int, float, float, float, float]] = []
        self.source_ids: list[str] = []
        self.findings: list[Finding] = []
        self.twice: dict[tuple[str, str], list[str]] = {}
        self.label_files: set[str] = set()
        self.folders: set[str] = set()

    def dataset(self, name: str) -> Dataset:
        for (first, second), keys in self.twice.items():
            what = f"stand twice in {second}" if first == second else f"stand in {first} and in {second}"
            message = f"{len(keys)} images {what}; the first is kept; list each image once"
            self.findings.append(Finding.of(Code.DUPLICATE_NAME, self.file, message, tuple(keys)))
        self._report_files()
        table = np.array(self.boxes, dtype=np.float64).reshape(-1, 6)
        boxes = {
            "image": table[:, 0].astype(np.int64),
            "class_id": table[:, 1].astype(np.int32),
            **{c: table[:, 2 + i] for i, c in enumerate(("x1", "y1", "x2", "y2"))},
            "source_id": self.source_ids,
        }
        images = {"key": self.keys, **self.columns}
        return Dataset.from_columns(name, list(self.names.values()), images, boxes, findings=self.findings)

    def read_entry(self, key: str, split: Split, entry: str) -> None:
        """One folder, list file or image of a split."""
        place = _below(self.root, self.base, entry)
        if (place is None or not (self.root / place).exists()) and entry.startswith("../"):
            place = _below(self.root, self.base, entry[3:])  # how a widespread labelling tool writes its exports
        if place is None:
            raise AnnotationError(f"{self.root / self.file}: {key}: {entry} lies outside {self.root}; move it there")
        path = self.root / place
        if path.is_dir():
            self.folders.add(place)
            start = f"{place}/" if place else ""
            for name, file in self.files.items():
                if name.startswith(start) and file.is_image:
                    self._add(name, file, split, key)
        elif path.is_file():
            self._read_list(place, split, key)
        else:
            raise AnnotationError(f"{self.root / self.file}: {key}: {path} is not there; add it or correct the entry")

    def _read_list(self, place: str, split: Split, key: str) -> None:
        folder = posixpath.dirname(place)
        for number, line in enumerate(_read_lines(self.root / place), start=1):
            if not line.strip():
                continue
            # "./" is relative to the list file, anything else to the data set.
            name = _below(self.root, folder if line.startswith("./") else self.base, line.strip())
            if name is None or safe_name(name) is None:
                message = f"{line.strip()!r} is not a plain path below the data set; move or rename the file"
                self.findings.append(Finding.of(Code.UNSAFE_NAME, f"{place}:{number}", message))
                continue
            if name not in self.files:
                message = "the file is not there; add it or remove the line"
                self.findings.append(Finding.of(Code.MISSING_IMAGE, f"{place}:{number}", message, (name,)))
            self._add(name, self.files.get(name), split, key)

    def _add(self, key: str, file: FileInfo | None, split: Split, split_key: str) -> None:
        if key in self.row:
            first = SPLIT_FOLDERS[Split(self.columns["split"][self.row[key]])]
            self.twice.setdefault((first, split_key), []).append(key)
            return
        if safe_name(key) is None:
            message = "the file name has a backslash or a control character; rename the file"
            self.findings.append(Finding.of(Code.UNSAFE_NAME, repr(key), message))
            return
        self.row[key] = len(self.keys)
        self.keys.append(key)
        width, height, plain = 0, 0, None
        if file:
            try:
                header = file_header(self.root / key, key)
                width, height, plain = header.width, header.height, header.is_plain
            except ImageError:
                pass  # validation decodes every image and says what is wrong with this one
        values = (
            str(self.root / key) if file else "",
            file.num_bytes if file else -1,
            width,
            height,
            split.value,
            plain,
        )
        for column, value in zip(self.columns.values(), values, strict=True):
            column.append(value)
        self._read_labels(self.row[key], _label_of(key), width, height)

    def _read_labels(self, row: int, place: str, width: int, height: int) -> None:
        self.label_files.add(place)
        if place not in self.files or not width:
            return
        for number, line in enumerate(_read_lines(self.root / place), start=1):
            if line.strip():
                self._read_line(row, f"{place}:{number}", line.split(), width, height)

    def _read_line(self, row: int, where: str, parts: list[str], width: int, height: int) -> None:
        box = _parse_line(parts)
        if isinstance(box, str):
            self.findings.append(Finding.of(Code.BAD_BOX, where, f"{box}; correct or remove it", (self.keys[row],)))
            return
        number, x1, y1, x2, y2 = box
        if number not in self.class_ids:
            message = f"class {number} is not in 'names' of {self.file}; add it or remove the line"
            self.findings.append(Finding.of(Code.UNKNOWN_CATEGORY, where, message, (self.keys[row],)))
            return
        self.boxes.append((row, self.class_ids[number], x1 * width, y1 * height, x2 * width, y2 * height))
        self.source_ids.append(where)

    def _report_files(self) -> None:
        for name, file in self.files.items():
            if file.is_image and name not in self.row:
                message = f"{self.file} does not name it; it is left out; add it to a split or remove it"
                self.findings.append(Finding.of(Code.ORPHAN_IMAGE, name, message, (name,)))
        label_folders = {posixpath.dirname(_label_of(f"{folder}/x.jpg")) for folder in self.folders}
        for name in self.files:
            stray = name.endswith(".txt") and name not in self.label_files and posixpath.dirname(name) in label_folders
            # Beside images, any text may lie; in a folder of labels, a file without an image is a loss.
            if stray and "labels" in name.split("/"):
                message = "there is no image for these labels; add the image or remove the file"
                self.findings.append(Finding.of(Code.UNKNOWN_IMAGE, name, message))


def _label_of(key: str) -> str:
    """``images/train/a.jpg`` -> ``labels/train/a.txt``, by the last ``images`` folder; without one, beside it."""
    head, found, tail = f"/{key}".rpartition("/images/")
    path = f"{head}/labels/{tail}" if found else f"/{key}"
    return posixpath.splitext(path)[0][1:] + ".txt"


def _read_lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise AnnotationError(f"{file}: cannot be read ({describe_os_error(error)})") from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{file}: not a text file; export the labels again") from error


def _parse_line(parts: list[str]) -> tuple[int, float, float, float, float] | str:
    """Class id and x1, y1, x2, y2 in fractions; or what is wrong."""
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        return "not all values are numbers"
    problem = _problem_with(numbers)
    if problem:
        return problem
    values = numbers[1:]
    if len(values) > 4:
        xs, ys = values[0::2], values[1::2]
        return int(numbers[0]), min(xs), min(ys), max(xs), max(ys)
    cx, cy, w, h = values
    return int(numbers[0]), cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def _problem_with(numbers: list[float]) -> str:
    if len(numbers) < 5 or len(numbers) % 2 == 0:
        return f"{len(numbers)} values; expected class cx cy width height, or class and the points of a polygon"
    if not all(map(math.isfinite, numbers)):
        return "a value is not finite"
    if numbers[0] != int(numbers[0]):
        return f"class {numbers[0]} is not a whole number"
    if max(map(abs, numbers[1:])) > _MAX_FRACTION:
        return "values must be fractions of the image, 0 to 1, not pixels"
    return "width or height is negative" if len(numbers) == 5 and min(numbers[3:]) < 0 else ""
