"""YOLO layout: ``data.yaml``, ``images/…`` and a text file per image in ``labels/…``.

A line is ``class cx cy width height`` in fractions of the image, or ``class x y x y x y …``, a polygon. Pixels need the
size of the image, which no file declares: it is read from the image's header (after EXIF rotation).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import posixpath
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image

from visionops.data.dataset import Dataset, Split
from visionops.data.files import FileInfo, atomic_folder, describe_os_error, file_header, safe_name, walk_files
from visionops.data.findings import Code, Finding
from visionops.errors import AnnotationError, DataError, ImageError
from visionops.inference.image import decode_image

__all__ = ["DATA_FILE", "read_yolo", "write_yolo"]

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
_FOLDER_OF = {s: key for key, s in _SPLIT_KEYS.items() if key != "validation"}
_MAX_FRACTION = 2.0
"""Boxes reach over the border by a little; a larger number is a pixel, not a fraction."""
_TRAINER_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp"})
_MAX_STEM = 120


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
            first = _FOLDER_OF[Split(self.columns["split"][self.row[key]])]
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


def write_yolo(dataset: Dataset, folder: Path) -> Path:
    """Write the data set in the layout the trainer reads.

    ``images/{train,val,test}`` and ``labels/{train,val,test}``; images for batch inference go to ``unlabelled``,
    images without a split to ``all``. Boxes are clipped to the image as rectangles; those with no area left are
    dropped. Images without boxes get an empty label file. Images are linked, never copied where they can be linked;
    those that are not plain (`ImageHeader.is_plain`) are re-encoded losslessly as PNG, so that the trainer sees the
    pixels that the server sees. ``folder`` is whole or not there; one that this function wrote before is replaced.

    Returns:
        The path of ``data.yaml``.

    Raises:
        DataError: An image is not at hand, or the folder cannot be written.
    """
    folder = folder.absolute()
    if folder.exists() and not (folder / DATA_FILE).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: is there and is no YOLO data set; choose another folder")
    items = _plan(dataset)
    with atomic_folder(folder, replace=True) as temporary:
        splits = [s for s in _FOLDER_OF if any(item.split == s for item in items)]
        for split in splits:
            (temporary / "images" / _FOLDER_OF[split]).mkdir(parents=True)
            (temporary / "labels" / _FOLDER_OF[split]).mkdir(parents=True)
        _write_labels(temporary, items, _label_texts(dataset, items))
        _encode_images(temporary, _link_images(temporary, items))
        settings: dict[str, Any] = {_FOLDER_OF[s]: f"images/{_FOLDER_OF[s]}" for s in splits}
        settings["names"] = dict(enumerate(dataset.class_names))
        text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
        (temporary / DATA_FILE).write_text(text, encoding="utf-8")
    return folder / DATA_FILE


@dataclasses.dataclass(slots=True)
class _Item:
    """An image on its way."""

    key: str
    source: str
    split: Split
    stem: str
    suffix: str
    plain: bool
    width: int
    height: int
    num_bytes: int


def _plan(dataset: Dataset) -> list[_Item]:
    keys, paths = dataset.column("key"), dataset.column("path")
    missing = [key for key, path in zip(keys, paths, strict=True) if not path]
    if missing:
        raise DataError(
            f"{missing[0]}: the image is not on this machine ({len(missing)} such); validate the data set first"
        )
    splits = [Split(s) for s in dataset.column("split")]
    parts = [os.path.splitext(key) for key in keys]  # noqa: PTH122 - per image, Path costs more than the link
    columns = (dataset.column(c) for c in ("plain", "width", "height", "num_bytes"))
    items = []
    for key, path, split, stem, (_, suffix), plain, width, height, size in zip(
        keys, paths, splits, _flat_names(keys, [stem for stem, _ in parts]), parts, *columns, strict=True
    ):
        item = _Item(key, path, split, stem, suffix.lower(), bool(plain), width, height, size)
        if plain is None or not width or not height:
            _look_at(item, plain)
        items.append(item)
    return items


def _look_at(item: _Item, plain: bool | None) -> None:
    header = file_header(Path(item.source), item.key)
    item.plain = header.is_plain if plain is None else plain
    if not item.width or not item.height:
        item.width, item.height = header.width, header.height


def _ends_well(item: _Item) -> bool:
    """Whether a JPEG ends with its end marker. The trainer encodes others anew, with loss."""
    if item.suffix not in (".jpg", ".jpeg"):
        return True
    try:
        file = os.open(item.source, os.O_RDONLY)
    except OSError as error:
        raise DataError(f"{item.source}: cannot be read ({describe_os_error(error)})") from error
    try:
        size = item.num_bytes if item.num_bytes > 2 else os.fstat(file).st_size
        return os.pread(file, 3, max(size - 2, 0)) == b"\xff\xd9"
    finally:
        os.close(file)


def _flat_names(keys: Sequence[str], paths: Sequence[str]) -> list[str]:
    """File names without suffix: readable, and unique whatever the case, the suffixes and the order of keys.

    Args:
        paths: The keys without their suffixes.
    """
    stems = [path.replace("/", "__") for path in paths]
    count = Counter(map(str.casefold, stems))
    return [
        stem
        if count[stem.casefold()] == 1 and len(stem) <= _MAX_STEM and "~" not in stem
        else f"{stem[:_MAX_STEM]}~{sha256(key.encode()).hexdigest()[:16]}"
        for stem, key in zip(stems, keys, strict=True)
    ]


def _label_texts(dataset: Dataset, items: Sequence[_Item]) -> list[bytes]:
    image, class_ids, xyxy = dataset.box_arrays()
    sizes = np.array([(item.width, item.height) for item in items], dtype=np.float64).reshape(-1, 2)
    limit = np.tile(sizes[image], 2) if len(image) else np.empty((0, 4))
    clipped = np.clip(xyxy, 0.0, limit)
    keep = np.flatnonzero((clipped[:, 2:] > clipped[:, :2]).all(axis=1))
    keep = keep[np.argsort(image[keep], kind="stable")]
    clipped, limit = clipped[keep], limit[keep]
    centre_and_size = np.hstack([(clipped[:, :2] + clipped[:, 2:]) / 2, clipped[:, 2:] - clipped[:, :2]]) / limit
    # 12 decimals: 1e-8 px of an image 20,000 px wide.
    rows = zip(class_ids[keep].tolist(), *centre_and_size.T.tolist(), strict=True)
    template = "%d %.12f %.12f %.12f %.12f\n"  # an f-string takes half as long again
    lines = [template % row for row in rows]
    cuts = np.searchsorted(image[keep], np.arange(len(items) + 1)).tolist()
    return ["".join(lines[start:stop]).encode() for start, stop in itertools.pairwise(cuts)]


def _write_labels(folder: Path, items: Iterable[_Item], texts: Iterable[bytes]) -> None:
    folders = {split: f"{folder}/labels/{name}/" for split, name in _FOLDER_OF.items()}
    for item, text in zip(items, texts, strict=True):
        file = os.open(f"{folders[item.split]}{item.stem}.txt", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            written = os.write(file, text) if text else 0
            if written < len(text):  # a disk that fills up takes a part first, and refuses the rest
                os.write(file, text[written:])
        finally:
            os.close(file)


def _link_images(folder: Path, items: Iterable[_Item]) -> list[_Item]:
    """Link what the trainer can read as it is.

    Returns:
        The others, which must be encoded anew.
    """
    folders = {split: f"{folder}/images/{name}/" for split, name in _FOLDER_OF.items()}
    others = []
    for item in items:
        if item.plain and item.suffix in _TRAINER_SUFFIXES and _ends_well(item):
            _link(item.source, f"{folders[item.split]}{item.stem}{item.suffix}")
        else:
            others.append(item)
    return others


def _link(source: str, target: str) -> None:
    for link in (os.symlink, os.link):
        try:
            link(source, target)
        except OSError:
            continue
        return
    shutil.copyfile(source, target)


def _encode_images(folder: Path, items: Sequence[_Item]) -> None:
    if not items:
        return
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for _ in pool.map(lambda item: _encode(folder, item), items):
            pass


def _encode(folder: Path, item: _Item) -> None:
    try:
        data = Path(item.source).read_bytes()
    except OSError as error:
        raise DataError(f"{item.source}: cannot be read ({describe_os_error(error)})") from error
    pixels: npt.NDArray[np.uint8] = decode_image(data, where=item.key)
    target = folder / "images" / _FOLDER_OF[item.split] / f"{item.stem}.png"
    Image.fromarray(pixels).save(target, "PNG", compress_level=1)
