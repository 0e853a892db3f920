"""Read the image lists that give the splits of a VOC data set."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import islice

from visionops.data.dataset import Split
from visionops.data.files import IMAGE_SUFFIXES
from visionops.data.findings import counted
from visionops.data.formats.assembly import examples
from visionops.data.listing import Listing, folder_of, stem_of, suffix_of
from visionops.errors import AnnotationError

__all__ = ["VocLists"]

# The first list that names an image decides; "trainval" only matters for images in neither train nor val.
_LISTS = {
    "train": Split.TRAIN,
    "training": Split.TRAIN,
    "val": Split.VAL,
    "valid": Split.VAL,
    "validation": Split.VAL,
    "test": Split.TEST,
    "testing": Split.TEST,
    "trainval": Split.TRAIN,
    "default": Split.NONE,
}
_ORDER = tuple(_LISTS)
_OF_A_CLASS = re.compile(r"_(train|val|test|trainval)$", re.IGNORECASE)
_BESIDE = re.compile(r"^(train|val|valid|validation|test|trainval)(_list)?$", re.IGNORECASE)
_BLANKS = " \t\r\n"
"""Separators; other spaces are part of a name, such as that of a Japanese keyboard."""
_SPACE = re.compile(r"\s+")
_FLAG = re.compile(r"\s+(?:-1|0|1)$")
_NUMBERS = re.compile(r"(?:\s+-?\d+)+$")


class VocLists:
    """Split of each annotation file in the lists of a data set."""

    def __init__(self, listing: Listing, files: Sequence[str]) -> None:
        """Read the lists in ``ImageSets``, for all images or per class like VoTT; else lists beside the files.

        Args:
            listing: All files.
            files: The annotation files.

        Raises:
            AnnotationError: A list is not text, or several folders have their own lists.
        """
        self.listing = listing
        self.contradictions: list[tuple[str, str, set[str]]] = []
        """Place, message and annotation files of entries in two lists."""
        self.unknown: list[tuple[str, str]] = []
        """Place and message of entries without an annotation file."""
        self._splits: dict[str, tuple[Split, str]] = {}
        self._base: str | None = None
        lists = _image_sets(listing)
        if len(lists) > 1:
            names = ", ".join(sorted(base or "." for base in lists))
            raise AnnotationError(
                f"{listing.root}: holds {len(lists)} VOC folders with lists of their own ({names}); point "
                "data.source.path at one"
            )
        for base, chosen in lists.items():
            self._base = base
            self._read(chosen, _Keys(base, files), is_strict=True)
        if not lists:
            self._read_beside(files)

    @property
    def found(self) -> bool:
        """Whether there are lists."""
        return bool(self._splits) or self._base is not None

    def split_of(self, file: str) -> Split | None:
        """Return the split of an annotation file; None if no list in ``ImageSets`` names it."""
        if file in self._splits:
            return self._splits[file][0]
        inside = self._base is not None and file.startswith(f"{self._base}/" if self._base else "")
        return None if inside else Split.NONE

    def _read_beside(self, files: Sequence[str]) -> None:
        """Read ``train.txt`` or ``train_list.txt`` in a folder above, if most lines name annotation files."""
        for name in listing_order(self.listing.by_suffix.get(".txt", ())):
            if not _BESIDE.match(_tail_stem(name)):
                continue
            keys = _Keys(folder_of(name), files)
            lines = [line for line in self.listing.read_lines(name) if line.strip()] if keys.table else []
            if sum(bool(keys.find(line)) for line in lines) * 2 > len(lines):
                self._read([name], keys, is_strict=False)

    def _read(self, names: Sequence[str], keys: _Keys, *, is_strict: bool) -> None:
        twice: dict[tuple[str, str], dict[str, None]] = {}
        for name in names:
            word = _word(name)
            split = _LISTS[word]
            absent: list[tuple[int, str]] = []
            for index, line in enumerate(self.listing.read_lines(name), start=1):
                if not line.strip():
                    continue
                found = keys.find(line)
                if not found:
                    absent.append((index, _plain(line)))
                for file in found:
                    known = self._splits.setdefault(file, (split, name))
                    if known[0] is not split and word != "trainval":
                        twice.setdefault((known[0].value, name), {})[file] = None
            if absent and is_strict:
                self._report_absent(name, absent)
        for (first, name), found_twice in twice.items():
            message = (
                f"{len(found_twice)} images are in {first} and in {_word(name)}; the first is kept; list each image "
                "once"
            )
            self.contradictions.append((name, message, set(found_twice)))

    def _report_absent(self, name: str, absent: list[tuple[int, str]]) -> None:
        line, stem = absent[0]
        if len(absent) == 1:
            message = f"names {stem}, which has no annotation file; add the file or remove the line"
        else:
            shown = examples([stem for _, stem in absent])
            message = (
                f"and {counted(len(absent) - 1, 'more line')}: images without an annotation file ({shown}); add the "
                "files or remove the lines"
            )
        self.unknown.append((f"{name}:{line}", message))


class _Keys:
    """Annotation files below a folder, indexed by the names that lists may use."""

    def __init__(self, base: str, files: Sequence[str]) -> None:
        start = f"{base}/" if base else ""
        self.table: dict[str, tuple[int, list[str]]] = {}
        self.folders: set[str] = set()
        """Folders within the annotation folder."""
        for file in files:
            if not file.startswith(start):
                continue
            parts = _folded(stem_of(file[len(start) :])).split("/")
            self.folders.update(parts[1:-1])
            for dropped in range(len(parts)):
                key = "/".join(parts[dropped:])
                least, known = self.table.get(key, (dropped, []))
                if dropped < least:
                    self.table[key] = (dropped, [file])
                elif dropped == least:
                    known.append(file)
                    self.table[key] = (least, known)

    def find(self, line: str) -> list[str]:
        """Return the annotation files that a line refers to."""
        for text in _readings(line):
            key = _folded(text)
            while key:
                if key in self.table:
                    return _as_written(self.table[key][1], text, key.count("/") + 1)
                folder, slash, key = key.partition("/")
                if not slash or folder in self.folders:  # a/1 is not the file 1 of another folder
                    break
        return []


def _readings(line: str) -> Iterator[str]:
    """Yield possible names in a line, such as ``a``, ``"a b" 1``, ``a 1``, ``a 37 2 1``, ``x/a.jpg y/a.xml``."""
    text = line.strip()
    texts = [line.strip(_BLANKS), text, _FLAG.sub("", text), _NUMBERS.sub("", text)]
    if text.startswith('"'):
        texts.append(text[1:].partition('"')[0])
        texts.append(_FLAG.sub("", text)[1:].removesuffix('"'))  # a quote inside a name is kept
    if text.lower().endswith(".xml"):
        texts += [text[space.end() :] for space in islice(_SPACE.finditer(text), 16)]
    for known in dict.fromkeys(texts):
        yield known
        if suffix_of(known) in IMAGE_SUFFIXES or suffix_of(known) == ".xml":
            yield stem_of(known)


def _plain(line: str) -> str:
    return _FLAG.sub("", line.strip())[:120]


def _as_written(files: list[str], text: str, parts: int) -> list[str]:
    """Return which of files that differ only in case or Unicode form has the spelling of the list."""
    if len(files) < 2:
        return files
    wanted = text.replace("\\", "/").split("/")[-parts:]
    return [file for file in files if stem_of(file).split("/")[-parts:] == wanted] or files


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.replace("\\", "/").removeprefix("./")).casefold()


def _image_sets(listing: Listing) -> dict[str, list[str]]:
    """Return a mapping of VOC folders to their lists; lists of one class only if there are no others."""
    found: dict[str, dict[str, list[str]]] = {}
    for name in listing.by_suffix.get(".txt", ()):
        parts = folder_of(name).split("/")
        folded = [part.lower() for part in parts]
        if "imagesets" in folded:
            at = folded.index("imagesets")
            found.setdefault("/".join(parts[:at]), {}).setdefault("/".join(folded[at + 1 :]), []).append(name)
    lists = {}
    for base, by_kind in found.items():
        kinds = sorted(by_kind, key=lambda kind: (("main", "").index(kind) if kind in ("main", "") else 2, kind))
        whole = [[n for n in by_kind[kind] if _tail_stem(n).lower() in _LISTS] for kind in kinds]
        of_classes = [[n for n in by_kind[kind] if _OF_A_CLASS.search(_tail_stem(n))] for kind in kinds]
        chosen = next((names for names in (*whole, *of_classes) if names), [])
        if chosen:
            lists[base] = listing_order(chosen)
    return lists


def listing_order(names: Sequence[str]) -> list[str]:
    """Sort lists so that the first one that names an image decides."""
    return sorted(names, key=lambda name: (_ORDER.index(_word(name)) if _word(name) in _ORDER else len(_ORDER), name))


def _word(name: str) -> str:
    """Return the split word of a list: ``train`` for ``dog_train.txt``, ``train_list.txt`` and ``Train.txt``."""
    stem = _tail_stem(name).lower().removesuffix("_list")
    match = _OF_A_CLASS.search(stem)
    return match[1] if match and stem not in _LISTS else stem


def _tail_stem(name: str) -> str:
    return stem_of(name).rpartition("/")[2]
