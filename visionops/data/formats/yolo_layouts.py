"""Where a YOLO export says what: its classes, its splits, and what they hold.

Three kinds: a YAML file (Ultralytics, Roboflow, CVAT), ``obj.data`` (darknet, CVAT YOLO 1.1), or neither, where a list
of class names lies beside ``images`` and ``labels`` (Label Studio, labelImg).
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
from collections.abc import Iterable
from typing import Any

from visionops.data.dataset import Split
from visionops.data.formats.assembly import examples
from visionops.data.formats.splits import SPLIT_WORDS
from visionops.data.listing import Listing, folder_of
from visionops.errors import AnnotationError

__all__ = [
    "DATA_FILE",
    "NAME_LISTS",
    "ORIENTED",
    "SPLIT_FOLDERS",
    "Entry",
    "Layout",
    "find_layout",
    "place_of",
    "split_of",
]

DATA_FILE = "data.yaml"

_SPLIT_KEYS = {
    "train": Split.TRAIN,
    "val": Split.VAL,
    "validation": Split.VAL,
    "valid": Split.VAL,
    "test": Split.TEST,
    # Ours alone, so that what was written reads back whole; trainers do not look at them.
    "unlabelled": Split.UNLABELLED,
    "all": Split.NONE,
}
SPLIT_FOLDERS = {s: key for key, s in _SPLIT_KEYS.items() if key not in ("validation", "valid")}
"""The key of a split in ``data.yaml``, which is also the name of its folder."""
ORIENTED = (
    "oriented boxes (OBB: class and four corners), which no task here learns; export axis-aligned boxes, "
    "as class cx cy width height"
)
"""What oriented boxes are, and what to do."""
NAME_LISTS = ("classes.txt", "obj.names", "predefined_classes.txt", "_darknet.labels")
"""Files, in lower case, that list class names, one a line."""
_SETTING = re.compile(r"^\s*(\w+)\s*=\s*(.*?)\s*$")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A part of a split: a folder, a list file or an image."""

    key: str
    """How the export calls the split."""
    split: Split
    place: str
    """As written."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """What an export says of itself."""

    file: str
    """The file that says so; where only class names are listed, that list."""
    maker: str
    """For people: "CVAT YOLO 1.1"."""
    names: dict[int, str]
    """Number in the label files to class name, in the order of numbers."""
    entries: tuple[Entry, ...]
    """Empty where folders alone say what the splits are."""
    base: str = ""
    """Folder that entries are relative to."""
    keypoints: tuple[int, int] | None = None
    """Key points of an object, and values of each (2 or 3)."""


def find_layout(listing: Listing) -> Layout | None:
    """Find out what the export is; None where nothing says so.

    Raises:
        AnnotationError: A file that should say so is malformed.
    """
    if yaml_file := _find_yaml(listing):
        return _of_yaml(listing, yaml_file)
    if data_file := next((name for name in listing.by_suffix.get(".data", ()) if _settings(listing, name)), None):
        return _of_darknet(listing, data_file)
    names_file = _find_names(listing)
    if names_file is None:
        return None
    maker = "Label Studio YOLO" if listing.find("notes.json") else "YOLO"
    return Layout(names_file, maker, _numbered(_read_names(listing, names_file), listing, names_file), ())


def _find_yaml(listing: Listing) -> str | None:
    for name in (DATA_FILE, "data.yml"):
        if file := listing.find(name):
            return file
    files: list[str] = [*listing.by_suffix.get(".yaml", ()), *listing.by_suffix.get(".yml", ())]
    top = sorted(name for name in files if "/" not in name)
    if len(top) > 1:
        named = [name for name in top if _has_names(listing, name)]
        if len(named) != 1:
            raise AnnotationError(
                f"{listing.path(DATA_FILE)}: not found; there are {', '.join(top)}: rename one, or set data.format"
            )
        return named[0]
    if top and (_has_names(listing, top[0]) or not _find_names(listing)):
        return top[0]
    deeper = [name for name in files if posixpath.basename(name).lower() in (DATA_FILE, "data.yml")]
    return deeper[0] if len(deeper) == 1 else None


def _has_names(listing: Listing, file: str) -> bool:
    try:
        settings = listing.read_yaml(file)
    except AnnotationError:
        return False
    return isinstance(settings, dict) and "names" in settings


def _of_yaml(listing: Listing, file: str) -> Layout:
    path = listing.path(file)
    settings = listing.read_yaml(file)
    if not isinstance(settings, dict):
        raise AnnotationError(f"{path}: must be a mapping with train, val and names")
    if str(settings.get("task", "")).lower() == "obb":
        raise AnnotationError(f"{path}: {ORIENTED}")
    names = _names_in(listing, file, settings)
    entries = []
    for key, split in _SPLIT_KEYS.items():
        given = settings.get(key)
        parts = given if isinstance(given, list) else [given] if given else []
        if not all(isinstance(part, str) and part for part in parts):
            raise AnnotationError(f"{path}: {key!r} must be a folder, a list file or a list of them")
        entries += [Entry(key, split, part) for part in parts]
    roboflow = "roboflow" in settings or any(name.startswith("README.roboflow") for name in listing.files)
    points = _keypoints(settings.get("kpt_shape"), listing, file)
    maker = f"{'Roboflow ' if roboflow else ''}YOLO{' pose' if points else ''}"
    return Layout(file, maker, names, tuple(entries), _base(listing, file, settings), points)


def split_of(name: str) -> Split:
    """The split that the folders of an image say; ``NONE`` where they say none."""
    return next((SPLIT_WORDS[p.lower()] for p in name.split("/")[:-1] if p.lower() in SPLIT_WORDS), Split.NONE)


def _names_in(listing: Listing, file: str, settings: dict[str, Any]) -> dict[int, str]:
    path, names = listing.path(file), settings.get("names")
    if isinstance(names, str) and names:  # a file of names, as darknet has it
        place = listing.find(posixpath.normpath(posixpath.join(folder_of(file), names.replace("\\", "/"))))
        names = _read_names(listing, place) if place else None
    pairs = (
        list(enumerate(names)) if isinstance(names, list) else list(names.items()) if isinstance(names, dict) else []
    )
    if not pairs or any(
        not isinstance(value, str) or not value.strip() or not _is_unicode(value) for _, value in pairs
    ):
        raise AnnotationError(f"{path}: 'names' must list the class names, such as [scratch, pit]")
    try:
        result = {int(key): value.strip() for key, value in pairs}
    except (TypeError, ValueError) as error:
        raise AnnotationError(f"{path}: the keys of 'names' must be whole numbers") from error
    if len(result) < len(pairs):
        raise AnnotationError(f"{path}: 'names' has the same number twice; give each class its own")
    count = settings.get("nc")
    if count is not None and str(count) != str(len(result)):
        raise AnnotationError(f"{path}: 'nc' is {count}, but 'names' has {len(result)}; make them agree")
    return dict(sorted(result.items()))


def _is_unicode(text: str) -> bool:
    """Whether a text can be stored: YAML may escape half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _keypoints(shape: Any, listing: Listing, file: str) -> tuple[int, int] | None:
    if shape is None:
        return None
    try:
        count, values = (int(part) for part in shape)
        if count > 0 and values in (2, 3):
            return count, values
    except (TypeError, ValueError):
        pass
    raise AnnotationError(f"{listing.path(file)}: 'kpt_shape' must be [number of key points, 2 or 3]")


def _base(listing: Listing, file: str, settings: dict[str, Any]) -> str:
    """What entries are relative to: ``path`` where that lies below the root, else the folder of the file.

    ``path`` often names a folder of the machine that wrote the file.
    """
    path = settings.get("path")
    if path is not None and not isinstance(path, str):
        raise AnnotationError(f"{listing.path(file)}: 'path' must be a folder")
    base = place_of(listing, "", path) if path else None
    return base if base and base in listing.folders else folder_of(file)


def place_of(listing: Listing, base: str, entry: str) -> str | None:
    """``entry``, relative to ``base``, as a path relative to the root; None when it leaves it. No link is followed."""
    root = listing.root.as_posix()
    joined = posixpath.normpath(posixpath.join(root, base, entry.replace("\\", "/")))
    relative = posixpath.relpath(joined, root)
    return None if relative == ".." or relative.startswith("../") else "" if relative == "." else relative


def _settings(listing: Listing, file: str) -> dict[str, str]:
    """``key = value`` lines of a darknet file that names class names; empty for any other file."""
    try:
        lines = listing.read_lines(file)
    except AnnotationError:
        return {}
    found = {match[1].lower(): match[2] for line in lines[:50] if (match := _SETTING.match(line))}
    return found if "names" in found else {}


def _of_darknet(listing: Listing, file: str) -> Layout:
    settings = _settings(listing, file)
    folder = folder_of(file)
    names_file = _near(listing, folder, settings["names"])
    if names_file is None:
        raise AnnotationError(f"{listing.path(file)}: names = {settings['names']} is not there; add the file")
    names = _numbered(_read_names(listing, names_file), listing, names_file)
    keys = {"train": Split.TRAIN, "valid": Split.VAL, "val": Split.VAL, "test": Split.TEST}
    entries = tuple(Entry(key, split, settings[key]) for key, split in keys.items() if settings.get(key))
    if len({entry.split for entry in entries}) == 1:  # CVAT calls whatever it exports "train"
        entries = tuple(dataclasses.replace(entry, split=Split.NONE) for entry in entries)
    cvat = any(name.lower().startswith("obj_") for name in listing.folders)
    return Layout(file, "CVAT YOLO 1.1" if cvat else "darknet YOLO", names, entries, folder)


def _near(listing: Listing, folder: str, name: str) -> str | None:
    """A file that darknet names relative to its own program: ``data/obj.names`` lies beside ``obj.data``."""
    parts = name.replace("\\", "/").split("/")
    for start in range(len(parts)):
        for base in (folder, ""):
            if found := listing.find(posixpath.normpath(posixpath.join(base, *parts[start:]))):
                return found
    return None


def _find_names(listing: Listing) -> str | None:
    lists = [name for name in listing.files if posixpath.basename(name).lower() in NAME_LISTS]
    lists += [name for name in listing.by_suffix.get(".names", ()) if name not in lists]
    if len(lists) > 1:
        contents = {tuple(_read_names(listing, name)) for name in lists}
        if len(contents) > 1:
            raise AnnotationError(
                f"{listing.root}: {examples(lists)} list different classes; keep the one that the labels were made with"
            )
    if lists:
        return min(lists, key=lambda name: (name.count("/"), name))
    notes = listing.find("notes.json")
    return notes if notes and _read_names(listing, notes) else None


def _read_names(listing: Listing, file: str) -> list[str]:
    if file.lower().endswith(".json"):
        notes = listing.read_json(file)
        categories = notes.get("categories") if isinstance(notes, dict) else None
        rows = [row for row in categories or () if isinstance(row, dict)] if isinstance(categories, list) else []
        return [str(row["name"]) for row in rows if isinstance(row.get("name"), str)]
    lines = [line.strip() for line in listing.read_lines(file)]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _numbered(names: Iterable[str], listing: Listing, file: str) -> dict[int, str]:
    numbered = dict(enumerate(names))
    if not numbered or not all(name.strip() for name in numbered.values()):
        raise AnnotationError(f"{listing.path(file)}: must list the class names, one a line, in the order of numbers")
    return numbered
