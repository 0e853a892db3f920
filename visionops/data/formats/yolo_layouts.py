"""Read the layout of a YOLO export: its classes, its splits, and their images.

There are three kinds: a YAML file (Ultralytics, Roboflow, CVAT), ``obj.data`` (darknet, CVAT YOLO 1.1), or neither,
with a list of class names beside ``images`` and ``labels`` (Label Studio, labelImg).
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
from collections.abc import Iterable
from typing import Any

from visionops.data.dataset import Split
from visionops.data.files import IMAGE_SUFFIXES
from visionops.data.formats.assembly import examples
from visionops.data.formats.splits import SPLIT_WORDS
from visionops.data.listing import Listing, folder_of, stem_of, suffix_of
from visionops.errors import AnnotationError

__all__ = [
    "DATA_FILE",
    "ORIENTED",
    "SPLIT_FOLDERS",
    "Entry",
    "Layout",
    "find_layout",
    "is_list_of_names",
    "place_of",
]

DATA_FILE = "data.yaml"

_SPLIT_KEYS = {
    "train": Split.TRAIN,
    "val": Split.VAL,
    "validation": Split.VAL,
    "valid": Split.VAL,
    "test": Split.TEST,
    # Only for our own exports, so that they read back completely; trainers ignore them.
    "unlabelled": Split.UNLABELLED,
    "all": Split.NONE,
}
SPLIT_FOLDERS = {s: key for key, s in _SPLIT_KEYS.items() if key not in ("validation", "valid")}
"""Key of a split in ``data.yaml``, which is also the name of its folder."""
ORIENTED = (
    "oriented boxes (OBB: class and four corners), which no task supports; export axis-aligned boxes, "
    "as class cx cy width height"
)
"""Description of oriented boxes, and the fix."""
_NAME_LISTS = (
    ("classes.txt",),
    ("obj.names", "_darknet.labels", "class_names.txt", "labels.txt", "names.txt"),
    ("predefined_classes.txt",),
)
"""Files, in lower case, that list class names, one per line. labelImg's predefined ones are for any data set."""
_ALL_NAME_LISTS = frozenset(name for names in _NAME_LISTS for name in names)
_LISTS = {"train.txt": "train", "val.txt": "val", "valid.txt": "valid", "test.txt": "test"}
"""Maps lower-case names of image lists to their splits."""
_NO_SPLITS = frozenset({"classes", "names", "backup", "eval", "results", "top", "labels", "difficult"})
"""Keys of darknet's settings that do not name a list of images."""
_MOST_CLASSES = 100_000
_MOST_YAML = 20
"""Maximum number of YAML files to inspect."""
_ABOUT_OBB = re.compile(r"(?<![a-z])(?:dota|obb)(?![a-z])", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A part of a split: a folder, a list file or an image."""

    key: str
    """Name of the split in the export."""
    split: Split
    place: str
    """Path as written."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """Description of an export."""

    file: str
    """The file that describes it; if only class names are listed, that list."""
    maker: str
    """Tool for people: "CVAT YOLO 1.1"."""
    names: dict[int, str]
    """Maps a class number in the label files to its name, in the order of numbers."""
    entries: tuple[Entry, ...] = ()
    """Parts of the splits; empty if only folders give the splits."""
    bases: tuple[str, ...] = ("",)
    """Folders that entries may be relative to, the best first."""
    keypoints: tuple[int, int] | None = None
    """Number of key points of an object, and of values of each (2 or 3)."""
    is_oriented: bool = False
    """Whether names in the export indicate oriented boxes."""
    notes: tuple[str, ...] = ()


def find_layout(listing: Listing) -> Layout | None:
    """Find the layout of an export; return None if no file describes it.

    Raises:
        AnnotationError: A file that describes it is malformed.
    """
    if yaml_file := _find_yaml(listing):
        return _of_yaml(listing, yaml_file)
    if data_file := next((name for name in listing.by_suffix.get(".data", ()) if _settings(listing, name)), None):
        return _of_darknet(listing, data_file)
    names_file, notes = _find_names(listing)
    if names_file is None:
        return None
    maker = "Label Studio YOLO" if listing.find("notes.json") else "YOLO"
    names = _numbered(_read_names(listing, names_file), listing, names_file)
    folder = folder_of(names_file)
    return Layout(names_file, maker, names, _lists_in(listing, folder), (folder, ""), notes=tuple(notes))


def is_list_of_names(listing: Listing, name: str) -> bool:
    """Return whether a text file lists class names, judged by its own name: no image has the same name."""
    tail = posixpath.basename(name).lower()
    return tail in _ALL_NAME_LISTS and not any(stem_of(name) + suffix in listing.files for suffix in IMAGE_SUFFIXES)


def place_of(listing: Listing, base: str, entry: str) -> str | None:
    """Return ``entry``, relative to ``base``, relative to the root; None if it is outside. Links are not followed."""
    root = listing.root.as_posix()
    joined = posixpath.normpath(posixpath.join(root, base, entry.replace("\\", "/")))
    relative = posixpath.relpath(joined, root)
    return None if relative == ".." or relative.startswith("../") else "" if relative == "." else relative


def _find_yaml(listing: Listing) -> str | None:
    for name in (DATA_FILE, "data.yml"):
        if file := listing.find(name):
            return file
    files: list[str] = [*listing.by_suffix.get(".yaml", ()), *listing.by_suffix.get(".yml", ())]
    top = [name for name in sorted(files) if "/" not in name][:_MOST_YAML]
    named = [name for name in top if _describes(listing, name)]
    if len(named) > 1:
        raise AnnotationError(
            f"{listing.path(DATA_FILE)}: not found; found {', '.join(named)}; rename one, or set data.format"
        )
    if named:
        return named[0]
    deeper = [name for name in files if posixpath.basename(name).lower() in (DATA_FILE, "data.yml")]
    deeper = deeper or [name for name in sorted(files)[:_MOST_YAML] if "/" in name and _describes(listing, name)]
    if len(deeper) > 1:
        raise AnnotationError(
            f"{listing.root}: holds {len(deeper)} YOLO data sets ({examples(deeper)}); set data.source.path to the "
            "folder of one"
        )
    return deeper[0] if deeper else None


def _describes(listing: Listing, file: str) -> bool:
    """Return whether a YAML file names classes, or a folder of training images."""
    try:
        settings = _folded(listing.read_yaml(file))
    except AnnotationError:
        return False
    return "names" in settings or ("train" in settings and ("nc" in settings or isinstance(settings["train"], str)))


def _folded(settings: Any) -> dict[str, Any]:
    """Return a mapping with its keys in lower case; {} for anything else."""
    if not isinstance(settings, dict):
        return {}
    lower = {key.lower(): value for key, value in settings.items() if isinstance(key, str)}
    return lower | {key: value for key, value in settings.items() if isinstance(key, str)}


def _of_yaml(listing: Listing, file: str) -> Layout:
    path = listing.path(file)
    raw = listing.read_yaml(file)
    settings = _folded(raw)
    if not isinstance(raw, dict):
        raise AnnotationError(f"{path}: must be a mapping with train, val and names")
    if str(settings.get("task", "")).lower() == "obb":
        raise AnnotationError(f"{path}: {ORIENTED}")
    names, notes = _names_in(listing, file, settings)
    entries: list[Entry] = []
    for key, split in _SPLIT_KEYS.items():
        given = settings.get(key)
        parts = given if isinstance(given, list) else [given] if given else []
        if not all(isinstance(part, str) and part and _is_unicode(part) for part in parts):
            raise AnnotationError(f"{path}: {key!r} must be a folder, a list file or a list of them")
        known = {(entry.split, entry.place) for entry in entries}  # val and valid may both exist, and agree
        parts = [part for part in parts if part.lower() not in ("null", "~") and (split, part) not in known]
        entries += [Entry(key, split, part) for part in parts]
    roboflow = "roboflow" in settings or any("/" not in n and n.startswith("README.roboflow") for n in listing.files)
    points = _keypoints(settings.get("kpt_shape"), listing, file)
    maker = f"{'Roboflow ' if roboflow else ''}YOLO{' pose' if points else ''}"
    about = f"{posixpath.basename(file)} {settings.get('path', '')}"
    return Layout(
        file,
        maker,
        names,
        tuple(entries),
        _bases(listing, file, settings),
        points,
        bool(_ABOUT_OBB.search(about[:1000])),
        tuple(notes),
    )


def _names_in(listing: Listing, file: str, settings: dict[str, Any]) -> tuple[dict[int, str], list[str]]:
    path, names, count = listing.path(file), settings.get("names"), settings.get("nc")
    notes: list[str] = []
    if isinstance(names, str) and names:  # a file of names, as in darknet
        place = _near(listing, folder_of(file), names)
        names = _read_names(listing, place) if place else None
    elif names is None and count is not None:
        names, notes = _names_without(listing, file, count)
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
    if min(result) < 0:
        raise AnnotationError(f"{path}: the keys of 'names' must be whole numbers from 0 (got {min(result)})")
    if len(result) < len(pairs):
        raise AnnotationError(f"{path}: 'names' has a duplicate number; give each class its own")
    if count is not None and str(count) != str(len(result)):
        shown = count if isinstance(count, str) else "no number"
        raise AnnotationError(f"{path}: 'nc' is {shown[:20]}, but 'names' has {len(result)}; make them agree")
    return dict(sorted(result.items())), notes


def _is_unicode(text: str) -> bool:
    """Return whether a text can be stored: YAML may escape half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _names_without(listing: Listing, file: str, count: Any) -> tuple[list[str], list[str]]:
    """Return names if a YAML file only counts the classes: from a list beside it, else the trainer's names."""
    names_file, notes = _find_names(listing)
    if names_file:
        return _read_names(listing, names_file), [*notes, f"{file} has no names: they are those of {names_file}."]
    if not isinstance(count, str) or not re.fullmatch(r"[0-9]{1,6}", count) or not 0 < int(count) <= _MOST_CLASSES:
        raise AnnotationError(f"{listing.path(file)}: 'names' must list the class names, such as [scratch, pit]")
    note = f"{file} has no names, only nc: {count}: classes are called class_0, class_1 and so on."
    return [f"class_{number}" for number in range(int(count))], [note]


def _keypoints(shape: Any, listing: Listing, file: str) -> tuple[int, int] | None:
    if shape is None:
        return None
    try:
        count, values = (int(part) for part in shape)
        if isinstance(shape, list) and count > 0 and values in (2, 3):
            return count, values
    except (TypeError, ValueError):
        pass
    raise AnnotationError(f"{listing.path(file)}: 'kpt_shape' must be [number of key points, 2 or 3]")


def _bases(listing: Listing, file: str, settings: dict[str, Any]) -> tuple[str, ...]:
    """Return the bases of entries: ``path`` if it is below the root, the folder of the file, the root.

    ``path`` often names a folder on the machine that wrote the file; its end may exist here.
    """
    path, own = settings.get("path"), folder_of(file)
    if path is not None and not isinstance(path, str):
        raise AnnotationError(f"{listing.path(file)}: 'path' must be a folder")
    found = []
    if path:
        tails = path.replace("\\", "/").rstrip("/").split("/")[-8:]
        ends = ["/".join(tails[start:]) for start in range(len(tails))]
        places = [place_of(listing, base, part) for part in (path, *ends) for base in ("", own)]
        found = [place for place in places if place and place in listing.folders]
    return tuple(dict.fromkeys((*found, own, "")))


def _settings(listing: Listing, file: str) -> dict[str, str]:
    """Return the ``key = value`` lines of a darknet file that names class names; {} for any other file."""
    try:
        lines = listing.read_lines(file)
    except AnnotationError:
        return {}
    pairs = [line.partition("=") for line in lines[:50]]
    found = {key.strip().lower(): value.strip() for key, equals, value in pairs if equals and key.strip()}
    return found if found.get("names") else {}


def _of_darknet(listing: Listing, file: str) -> Layout:
    settings = _settings(listing, file)
    folder = folder_of(file)
    names_file = _near(listing, folder, settings["names"])
    if names_file is None:
        raise AnnotationError(f"{listing.path(file)}: names = {settings['names'][:200]} is missing; add the file")
    names = _numbered(_read_names(listing, names_file), listing, names_file)
    known = {key: SPLIT_WORDS.get(key, Split.NONE) for key in settings if key not in _NO_SPLITS}
    entries = [
        Entry(key, split, settings[key])
        for key, split in known.items()
        if settings[key] and (split or settings[key].lower().endswith(".txt"))
    ]
    listed = {posixpath.basename(entry.place.replace("\\", "/")).lower() for entry in entries}
    entries += [e for e in _lists_in(listing, folder) if posixpath.basename(e.place).lower() not in listed]
    if len({entry.split for entry in entries}) == 1:  # CVAT calls every export "train"
        entries = [dataclasses.replace(entry, split=Split.NONE) for entry in entries]
    entries.sort(key=lambda entry: _ORDER.index(entry.split))
    cvat = any(name.lower().startswith("obj_") for name in listing.folders)
    return Layout(file, "CVAT YOLO 1.1" if cvat else "darknet YOLO", names, tuple(entries), (folder, ""))


_ORDER = tuple(dict.fromkeys(_SPLIT_KEYS.values()))


def _lists_in(listing: Listing, folder: str) -> tuple[Entry, ...]:
    """Return ``train.txt`` and the like if they list images; beside the images, any text may have such a name."""
    start = f"{folder}/" if folder else ""
    entries = []
    for file, key in _LISTS.items():
        name = listing.find(start + file)
        if name is None:
            continue
        try:
            lines = [line.strip() for line in listing.read_lines(name) if line.strip()]
        except AnnotationError:
            continue
        if lines and suffix_of(lines[0].replace("\\", "/")) in IMAGE_SUFFIXES:
            entries.append(Entry(key, _SPLIT_KEYS[key], name))
    return tuple(entries)


def _near(listing: Listing, folder: str, name: str) -> str | None:
    """Return a file that darknet names relative to its own program: ``data/obj.names`` is beside ``obj.data``."""
    parts = name.replace("\\", "/").split("/")[-8:]
    for start in range(len(parts)):
        for base in (folder, ""):
            if found := listing.find(posixpath.normpath(posixpath.join(base, *parts[start:]))):
                return found
    return None


def _find_names(listing: Listing) -> tuple[str | None, list[str]]:
    """Return the list of class names, and a note if there are longer and shorter ones.

    Raises:
        AnnotationError: Two lists have different names for one number.
    """
    texts = [n for suffix in (".txt", ".labels") for n in listing.by_suffix.get(suffix, ())]
    candidates = [name for name in texts if name.lower().endswith(tuple(_ALL_NAME_LISTS))]
    candidates += listing.by_suffix.get(".names", [])
    for rank in _NAME_LISTS:
        lists = [
            name
            for name in candidates
            if posixpath.basename(name).lower() in rank
            or (rank is _NAME_LISTS[1] and suffix_of(name) == ".names" and posixpath.basename(name).lower() not in rank)
        ]
        contents = {name: _read_names(listing, name) for name in lists if _may_be_names(listing, name)}
        contents = {name: names for name, names in contents.items() if names}
        if not contents:
            continue
        longest = min(contents, key=lambda name: (-len(contents[name]), name.count("/"), name))
        shorter = [name for name in contents if len(contents[name]) < len(contents[longest])]
        other = next((n for n in contents if contents[n] != contents[longest][: len(contents[n])]), None)
        if other:
            raise AnnotationError(
                f"{listing.root}: {longest} and {other} list different classes; keep the one that the labels were "
                "made with"
            )
        note = f"{longest} has more classes than {examples(shorter)}, which are its beginning: it is used for all."
        return longest, [note] if shorter else []
    notes = listing.find("notes.json")
    try:
        return (notes, []) if notes and _read_names(listing, notes) else (None, [])
    except AnnotationError:
        return None, []


def _may_be_names(listing: Listing, name: str) -> bool:
    """Return whether a file is more than the labels of an image called ``labels.jpg``."""
    return suffix_of(name) != ".txt" or is_list_of_names(listing, name)


def _read_names(listing: Listing, file: str) -> list[str]:
    if file.lower().endswith(".json"):
        notes = listing.read_json(file, keep=True)
        categories = notes.get("categories") if isinstance(notes, dict) else None
        rows = [row for row in categories or () if isinstance(row, dict)] if isinstance(categories, list) else []
        named = [row for row in rows if isinstance(row.get("name"), str)]
        if all(type(row.get("id")) is int for row in named):
            named.sort(key=lambda row: int(row["id"]))
            if [row["id"] for row in named] != list(range(len(named))):
                return []
        return [row["name"].strip() for row in named]
    lines = [line.strip() for line in listing.read_lines(file)]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _numbered(names: Iterable[str], listing: Listing, file: str) -> dict[int, str]:
    numbered = dict(enumerate(names))
    if not numbered or not all(name.strip() and _is_unicode(name) for name in numbered.values()):
        raise AnnotationError(f"{listing.path(file)}: must list the class names, one per line, in the order of numbers")
    return numbered
