"""Find the label file of each image in a YOLO export.

Trainers replace the last folder ``images`` by ``labels``, or search beside the image; annotation tools also write
``train/a.jpg`` with ``labels/train/a.txt``, ``images/train/a.jpg`` with ``labels/a.txt``, and encode special characters
in names. An exact name comes first, in that order of places; the rest is matched by the common rule for names.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Collection, Iterable, Sequence

from visionops.data.formats.names import Level, NameIndex
from visionops.data.formats.yolo_layouts import is_list_of_names
from visionops.data.formats.yolo_lines import looks_like_labels
from visionops.data.listing import Listing, folder_of, stem_of
from visionops.errors import AnnotationError

__all__ = ["LabelFiles", "label_of"]

_IMAGE_FOLDERS = frozenset({"images", "image", "imgs", "img", "jpegimages"})
_LABEL_FOLDERS = ("labels", "label", "annotations")
_DEEPEST = 64
"""Maximum number of folders in a path to search."""
_PLACES = 4
"""Number of kinds of places, best first: the trainer's, beside the image, in a parallel tree, in one folder."""


@dataclasses.dataclass(frozen=True, slots=True)
class LabelFile:
    """The label file of an image."""

    file: str | None
    rivals: tuple[str, ...] = ()
    """Label files that cannot be distinguished, or images that share one label file."""
    shared: bool = False
    """Whether ``rivals`` are images."""
    is_loose: bool = False
    """Whether the names differ in more than their folders."""


class LabelFiles:
    """The text files of a data set that may be labels."""

    def __init__(self, listing: Listing, others: Collection[str]) -> None:
        """Take all text files but ``others`` and lists of class names."""
        self.listing = listing
        self.files = {
            name: None
            for name in listing.by_suffix.get(".txt", ())
            if name not in others and not is_list_of_names(listing, name)
        }
        self.used: set[str] = set()
        self._folders: dict[str, list[str]] = {}
        for folder in dict.fromkeys(map(folder_of, self.files)):
            self._folders.setdefault(folder.casefold(), []).append(folder)
        self._stems: dict[str, str] = {}
        """Maps a name without suffix to the name, which may end in ``.TXT``."""
        for name in self.files:
            self._stems.setdefault(stem_of(name), name)
        self._places: dict[str, tuple[tuple[str, ...], ...]] = {}

    def match(self, keys: Sequence[str]) -> dict[str, LabelFile]:
        """Find the label file of each image; images without one are left out."""
        found: dict[str, LabelFile] = {}
        rest = list(keys)
        for kind in range(_PLACES):
            claims: dict[str, list[str]] = {}
            for key in rest:
                for file in self._at(key, kind):
                    if file not in self.used:
                        claims.setdefault(file, []).append(key)
                        break
            for file, owners in claims.items():
                found |= self._settle(file, owners)
            self.used.update(claims)
            rest = [key for key in rest if key not in found]
        for key, match in found.items():
            if match.file and not match.rivals and (other := self._second(key, match.file)):
                found[key] = LabelFile(None, (match.file, other))
                self.used.add(other)
        self._add_twins(found)
        return found | self._match_loosely(rest)

    def _settle(self, file: str, owners: list[str]) -> dict[str, LabelFile]:
        """Give a label file to all images that differ only in their suffix, as trainers do; else it is ambiguous."""
        if len({stem_of(owner) for owner in owners}) == 1:
            return {owner: LabelFile(file) for owner in owners}
        return {owner: LabelFile(None, tuple(owners), shared=True) for owner in owners}

    def _at(self, key: str, kind: int) -> Iterable[str]:
        """Return label files with the exact stem in the places of one kind."""
        tail = stem_of(key.rpartition("/")[2])
        for folder in self._places_of(folder_of(key))[kind]:
            if file := self._stems.get(f"{folder}/{tail}" if folder else tail):
                yield file

    def _places_of(self, folder: str) -> tuple[tuple[str, ...], ...]:
        """Return for each kind the folders with text files that may hold labels of images in ``folder``."""
        if folder not in self._places:
            parts = folder.split("/")[-_DEEPEST:] if folder else []
            depth = range(len(parts), -1, -1)
            swaps = [i for i in reversed(range(len(parts))) if parts[i].casefold() in _IMAGE_FOLDERS]
            wanted = (
                [[*parts[:i], name, *parts[i + 1 :]] for i in swaps[:1] for name in _LABEL_FOLDERS],
                [parts],
                [[*parts[:i], name, *parts[i + 1 :]] for i in swaps[1:] for name in _LABEL_FOLDERS]
                + [[*parts[:i], name, *parts[i:]] for i in depth for name in _LABEL_FOLDERS],
                [[*parts[:i], name] for i in depth for name in _LABEL_FOLDERS],
            )
            seen: dict[str, None] = {}
            places = []
            for kind in wanted:
                hits = [f for w in kind for f in self._existing("/".join(w)) if f not in seen]
                seen |= dict.fromkeys(hits)
                places.append(tuple(dict.fromkeys(hits)))
            self._places[folder] = tuple(places)
        return self._places[folder]

    def _existing(self, folder: str) -> list[str]:
        """Return the folder with that name, then those whose names differ in case."""
        alike = self._folders.get(folder.casefold(), [])
        return sorted(alike, key=lambda name: (name != folder, name))

    def _second(self, key: str, first: str) -> str | None:
        """Return another label file of the same image with other content."""
        for kind in range(_PLACES - 1):
            for file in self._at(key, kind):
                if file not in self.used and self._differ(first, file):
                    return file
        return None

    def _differ(self, first: str, second: str) -> bool:
        try:
            ours, theirs = (
                [line.split() for line in self.listing.read_lines(file) if line.strip()] for file in (first, second)
            )
        except AnnotationError:
            return False  # a file that is not text is not a second label file
        if ours == theirs:
            self.used.add(second)
            return False
        return not theirs or looks_like_labels([" ".join(line) for line in theirs])

    def _add_twins(self, found: dict[str, LabelFile]) -> None:
        """Refuse label files whose names look the same as the one found: they cannot be distinguished."""
        odd = {key: match for key, match in found.items() if match.file and not match.file.isascii()}
        if not odd:
            return
        unused: dict[str, list[str]] = {}
        for file in self.files:
            if file not in self.used and not file.isascii():
                unused.setdefault(unicodedata.normalize("NFC", file), []).append(file)
        for key, match in odd.items():
            twins = unused.get(unicodedata.normalize("NFC", match.file or ""))
            if twins:
                found[key] = LabelFile(None, (str(match.file), *twins))
                self.used.update(twins)

    def _match_loosely(self, keys: Sequence[str]) -> dict[str, LabelFile]:
        """Match by an inexact name, among the files that no image matches exactly."""
        unused = [name for name in self.files if name not in self.used]
        if not keys or not unused:
            return {}
        index = NameIndex(unused)
        found: dict[str, LabelFile] = {}
        for wanted in (label_of, _beside):
            rest = [key for key in keys if key not in found]
            for key, match in zip(rest, index.match([wanted(key) for key in rest], up_to=Level.PREFIX), strict=True):
                if match.rivals and not match.shared:
                    found[key] = LabelFile(None, match.rivals)
                    self.used.update(match.rivals)
                elif match.file and match.file not in self.used:
                    found[key] = LabelFile(match.file, is_loose=True)
            self.used.update(match.file for match in found.values() if match.file)
        return found

    def orphan_label_files(self, images: Iterable[str]) -> list[str]:
        """Return label files without an image: all others in label folders, and files elsewhere that look like labels.

        Args:
            images: Images outside the data set; their labels are not orphans.
        """
        for key in images:
            for kind in range(_PLACES):
                self.used.update(self._at(key, kind))
        places = {folder_of(file) for file in self.used}
        rest = [file for file in self.files if file not in self.used]
        return [
            file
            for file in rest
            if not {"labels", "label"}.isdisjoint(folder_of(file).casefold().split("/"))
            or (folder_of(file) in places and self._reads_as_labels(file))
        ]

    def _reads_as_labels(self, file: str) -> bool:
        try:
            return looks_like_labels(self.listing.read_lines(file))
        except AnnotationError:
            return False


def label_of(key: str) -> str:
    """Return ``labels/train/a.txt`` for ``images/train/a.jpg``, by the last ``images`` folder, else beside it."""
    parts = folder_of(key).split("/")
    swaps = [i for i in reversed(range(len(parts))) if parts[i].casefold() in _IMAGE_FOLDERS]
    if not swaps:
        return _beside(key)
    parts[swaps[0]] = _LABEL_FOLDERS[0]
    return "/".join((*parts, _beside(key.rpartition("/")[2])))


def _beside(key: str) -> str:
    return stem_of(key) + ".txt"
