"""Read YOLO: images, and a text file for each with one line per object.

A line is ``class cx cy width height`` in fractions of the image; or ``class x y x y x y …``, a polygon, which becomes
its bounding box; or, if ``kpt_shape`` is set, a box and key points. Conversion to pixels needs the size of the image,
which no file declares: it is read from the image's header (after EXIF rotation). `visionops.data.formats.yolo_layouts`
lists the layouts, `visionops.data.formats.yolo_labels` finds the label files.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterator

from visionops.data.dataset import Dataset, Split
from visionops.data.files import IMAGE_SUFFIXES, safe_name
from visionops.data.findings import Code, counted
from visionops.data.formats.assembly import Assembly, ImageEntry, examples
from visionops.data.formats.beside import find_masks
from visionops.data.formats.names import Bases, Level, NameIndex
from visionops.data.formats.protocol import Evidence, Strength
from visionops.data.formats.splits import SPLIT_WORDS, split_of_folders
from visionops.data.formats.yolo_labels import LabelFile, LabelFiles, label_of
from visionops.data.formats.yolo_layouts import (
    DATA_FILE,
    SPLIT_FOLDERS,
    Entry,
    Layout,
    find_layout,
    is_list_of_names,
    place_of,
)
from visionops.data.formats.yolo_lines import LabelLines, is_dota, looks_like_labels
from visionops.data.listing import Listing, folder_of, stem_of
from visionops.data.settings import DataConfig
from visionops.errors import AnnotationError

__all__ = ["DATA_FILE", "SPLIT_FOLDERS", "detect", "read"]

_SAMPLE = 30
_MOST_LOOKED_AT = 1000
"""Maximum number of text file names to check before a sample of the files is read."""
_LONGEST_PATH = 4096
_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:")


def detect(listing: Listing, data: DataConfig) -> Evidence | None:
    """Find a file that describes the export, or label files with lines of numbers beside images."""
    del data
    why = "no file lists class names"
    try:
        layout = find_layout(listing)
    except AnnotationError as error:
        layout, why = None, str(error)
    labels, dota = _sample_labels(listing)
    if dota and not labels:
        return Evidence(Strength.LIKELY, "DOTA (oriented boxes)", (f"{dota[0]} has lines of four corners and a class",))
    if not labels and (layout is None or not layout.entries):
        return None
    seen = [f"{labels[0]} has lines of a class and fractions"] if labels else []
    if layout is None:
        return Evidence(Strength.LIKELY, "YOLO", (f"{seen[0]}, though {why}",))
    named = f"{layout.file} lists {counted(len(layout.names), 'class', 'classes')}"
    return Evidence(Strength.SURE, layout.maker, (named, *seen))


def _sample_labels(listing: Listing) -> tuple[list[str], list[str]]:
    """Return some text files that belong to an image and look like labels, and some that look like DOTA's."""
    texts = listing.by_suffix.get(".txt", [])
    candidates = [name for name in texts[:: max(1, len(texts) // _MOST_LOOKED_AT)] if _may_be_labels(listing, name)]
    found, dota = [], []
    for name in candidates[:: max(1, len(candidates) // _SAMPLE)]:
        try:
            lines = listing.read_lines(name)[:_SAMPLE]
        except AnnotationError:
            continue
        if looks_like_labels(lines[:1]) or looks_like_labels(lines):
            found.append(name)
        elif is_dota(lines):
            dota.append(name)
    return found, dota


def _may_be_labels(listing: Listing, name: str) -> bool:
    if is_list_of_names(listing, name):
        return False
    stem = stem_of(name)
    beside = any(stem + s in listing.files or stem + s.upper() in listing.files for s in IMAGE_SUFFIXES)
    return beside or "label" in folder_of(name).lower()


def read(listing: Listing, data: DataConfig, name: str) -> Dataset:
    """Read the images of the layout; an empty or missing label file is an image without objects.

    Images are in order of splits and names.
    """
    del data
    layout = find_layout(listing)
    labels, dota = _sample_labels(listing)
    if dota and not labels:
        raise AnnotationError(
            f"{listing.path(dota[0])}: DOTA's own labels, oriented boxes in pixels, which no task supports; export "
            "axis-aligned boxes, as YOLO or COCO"
        )
    if layout is None:
        what = "class names in classes.txt, in the order of numbers" if labels else "it"
        raise AnnotationError(f"{listing.path(DATA_FILE)}: not found; add {what}, or set data.format")
    return _Reader(listing, layout).read(name)


class _Reader:
    def __init__(self, listing: Listing, layout: Layout) -> None:
        self.listing = listing
        self.layout = layout
        self.assembly = Assembly(listing)
        self.assembly.notes += layout.notes
        self.lines = LabelLines(self.assembly, layout)
        self.places = NameIndex([*listing.folders, *listing.by_suffix.get(".txt", ())])
        self.depth = max((folder.count("/") + 1 for folder in listing.folders), default=0) + 1
        self.splits: dict[str, Entry] = {}
        """Maps an image key to the first entry that names it."""
        self.twice: dict[tuple[str, str], list[str]] = {}
        self.lists: set[str] = {layout.file}
        self.moved: dict[str, list[str]] = {}
        """Maps a list file to its lines with paths of another machine."""

    def read(self, name: str) -> Dataset:
        for entry in self.layout.entries:
            self._read_entry(entry)
        labels = LabelFiles(self.listing, self.lists)
        if not self.layout.entries:
            self.splits = self._by_folders()
        for key in find_masks(self.listing):
            self.splits.pop(key, None)
        found = labels.match([key for key in self.splits if key in self.listing.files])
        if not self.layout.entries:
            self._keep_labelled_folders(found)
        self._refuse_silence(found)
        self._add_images(found)
        self.lines.finish()
        self._report()
        absent = [key for key in self.splits if key not in self.listing.files]  # reported already
        others = [key for key in self.listing.images if key not in self.splits]
        return self.assembly.dataset(name, labels=labels.orphan_label_files([*absent, *others]))

    def _by_folders(self) -> dict[str, Entry]:
        """Return all images in the order of the splits that their folders give."""
        order = list(Split)
        splits = {key: split_of_folders(key, unlabelled=True) for key in self.listing.images}
        keys = sorted(splits, key=lambda key: (order.index(splits[key]), key))
        return {key: Entry(SPLIT_FOLDERS[splits[key]], splits[key], key) for key in keys}

    def _keep_labelled_folders(self, found: dict[str, LabelFile]) -> None:
        """Leave out images in folders without any label: no file shows that they belong to the data set."""
        labelled = {_tree_of(key) for key in found}
        self.splits = {key: entry for key, entry in self.splits.items() if _tree_of(key) in labelled}

    def _read_entry(self, entry: Entry) -> None:
        place = self._find(entry)
        if place is None:
            return
        if place not in self.listing.files:
            for key in self.listing.below(place):
                if key in self.listing.images:
                    self._claim(key, entry)
        elif self.listing.files[place].is_image:
            self._claim(place, entry)
        else:
            self._read_list(place, entry)

    def _find(self, entry: Entry) -> str | None:
        """Return the place of an entry. Exports name places on other machines, and folders one level too high."""
        listing, where = self.listing, self.listing.path(self.layout.file)
        if len(entry.place) > _LONGEST_PATH:
            raise AnnotationError(f"{where}: {entry.key}: {entry.place[:40]}… is too long for a path; correct it")
        written = entry.place.replace("\\", "/")
        above = [written[3:]] if written.startswith("../") else []  # a common tool writes its exports like this
        inside = [place_of(listing, base, part) for part in (written, *above) for base in self.layout.bases]
        for place in inside:
            if place is not None and self._is_there(place):
                return place
        for place, match in zip(inside, self.places.match([p or "" for p in inside], up_to=Level.CASE), strict=True):
            if place and match.file:
                return self._note_place(entry, match.file)
        for place in self._ends_of(written):
            if self._is_there(place):
                return self._note_place(entry, place)
        if entry.split is not Split.TRAIN and any(e.split is Split.TRAIN for e in self.layout.entries):
            self.assembly.notes.append(f"{self.layout.file}: {entry.key}: {entry.place} is missing; left out.")
            return None
        if inside[0] is None:
            raise AnnotationError(f"{where}: {entry.key}: {entry.place} is outside {listing.root}; move it there")
        path = listing.path(inside[0])
        raise AnnotationError(f"{where}: {entry.key}: {path} is missing; add it or correct the entry")

    def _note_place(self, entry: Entry, place: str) -> str:
        self.assembly.notes.append(f"{self.layout.file}: {entry.key}: {entry.place} is found at {place}.")
        return place

    def _is_there(self, place: str) -> bool:
        return not place or place in self.listing.folders or place in self.listing.files

    def _ends_of(self, written: str) -> Iterator[str]:
        """Yield ends of a path, the longest first, as long as they still contain the split."""
        parts = [part for part in written.split("/") if part not in ("", ".", "..")]
        words = [i for i, part in enumerate(parts) if stem_of(part.lower()) in SPLIT_WORDS]
        last = min(len(parts), words[-1] + 1) if words else len(parts)
        for start in range(max(0, len(parts) - self.depth), last):
            for base in self.layout.bases:
                yield posixpath.normpath(posixpath.join(base, *parts[start:]))

    def _read_list(self, place: str, entry: Entry) -> None:
        """Read a list of images. ``./`` is relative to the list file, anything else to the data set."""
        self.lists.add(place)
        folder, bases = folder_of(place), self.layout.bases
        listed = []
        for number, line in enumerate(self.listing.read_lines(place), start=1):
            text = line.strip()
            if not text or text.startswith("# "):
                continue
            if len(text) > _LONGEST_PATH:
                message = f"{text[:40]}… is too long for a path; correct or remove the line"
                self.assembly.found(Code.UNSAFE_NAME, f"{place}:{number}", message)
                continue
            listed.append(ImageEntry(self._listed(text, place, folder), f"{place}:{number}", entry.split))
        near = dict.fromkeys(f"{base}/" if base else "" for base in (*bases, folder))
        ranks: Bases = (("",), *((base,) for base in near if base))
        for image, key in zip(listed, self.assembly.find_images(listed, ranks), strict=True):
            if key is None:
                continue
            if key not in self.listing.files:
                message = "the file is missing; add it or remove the line"
                self.assembly.found(Code.MISSING_IMAGE, image.where, message, (key,))
            self._claim(key, entry)

    def _listed(self, text: str, place: str, folder: str) -> str:
        """Return a line of a list relative to the root if that is a file; a path outside the data set is unchanged."""
        if text in self.listing.files:
            return text
        written = text.replace("\\", "/")
        bases = (folder,) if written.startswith("./") else self.layout.bases
        inside = [place_of(self.listing, base, written) for base in bases]
        for found in inside:
            if found in self.listing.files:
                return str(found)
        parts = [part for part in written.split("/") if part not in ("", ".")]
        if ".." not in parts and (_ABSOLUTE.match(text) or parts[:1] == ["data"]):
            for start in range(max(1, len(parts) - self.depth), len(parts)):
                for base in self.layout.bases:
                    tail = posixpath.join(base, *parts[start:])
                    if tail in self.listing.files:
                        if parts[0] != "data":  # darknet puts it before every path, so it has no meaning
                            self.moved.setdefault(place, []).append(f"{text} is {tail}")
                        return tail
        if inside[0] is None or _ABSOLUTE.match(text):
            return text
        return inside[0]

    def _claim(self, key: str, entry: Entry) -> None:
        if key in self.splits:
            self.twice.setdefault((self.splits[key].key, entry.key), []).append(key)
        else:
            self.splits[key] = entry

    def _refuse_silence(self, found: dict[str, LabelFile]) -> None:
        """Refuse a data set in which no image has a label file.

        Raises:
            AnnotationError: No image has a label file.
        """
        labelled = [k for k, e in self.splits.items() if e.split is not Split.UNLABELLED and k in self.listing.files]
        if labelled and not any(key in found for key in labelled):
            expected = self.listing.path(label_of(labelled[0]))
            raise AnnotationError(f"{expected}: not found, and no image has a label file; put labels there")

    def _add_images(self, found: dict[str, LabelFile]) -> None:
        rows: list[tuple[int, str]] = []
        without, loose = [], []
        for key, entry in self.splits.items():
            if safe_name(key) is None:
                message = "the file name has a backslash, a drive letter or a control character; rename the file"
                self.assembly.found(Code.UNSAFE_NAME, repr(key), message)
                self.assembly.claimed.add(key)
                continue
            match = found.get(key)
            if match and match.rivals:
                self._refuse(key, match)
                continue
            row = self.assembly.add_file(key, ImageEntry(key, key, entry.split))
            self.assembly.size_of(row)
            if match and match.file:
                rows.append((row, match.file))
                if match.is_loose:
                    loose.append(f"{match.file} for {key}")
            elif entry.split is not Split.UNLABELLED and key in self.listing.files:
                without.append(key)
        for row, file in rows:
            size = self.assembly.size_of(row)
            if all(size):
                self.lines.read(row, file, self.listing.read_lines(file), size)
        self._note_labels(without, loose, [file for _, file in rows])

    def _refuse(self, key: str, match: LabelFile) -> None:
        what = " and ".join(map(repr, match.rivals[:3]))
        if match.shared:
            message = f"{what} share one label file; give each image its own"
        else:
            message = f"label files {what} match it equally well, but differ; keep one"
        self.assembly.found(Code.AMBIGUOUS_NAME, key, message, (key,))
        self.assembly.claimed.add(key)

    def _note_labels(self, without: list[str], loose: list[str], files: list[str]) -> None:
        notes = self.assembly.notes
        if without:
            what = f"{counted(len(without), 'image')} without a label file, treated as without objects"
            notes.append(f"{what} ({examples(without)}).")
        if loose:
            what = f"{counted(len(loose), 'label file')} found by less than the exact name"
            notes.append(f"{what} ({examples(loose, 2)}).")
        shared = [file for file, count in Counter(files).items() if count > 1]
        if shared:
            what = f"{counted(len(shared), 'label file')} used for several images that differ only in their suffix"
            notes.append(f"{what} ({examples(shared, 2)}).")

    def _report(self) -> None:
        for (first, second), keys in self.twice.items():
            what = f"are listed twice in {second}" if first == second else f"are in {first} and in {second}"
            message = f"{len(keys)} images {what}; the first is kept; list each image once"
            self.assembly.found(Code.DUPLICATE_NAME, self.layout.file, message, tuple(keys))
        for place, lines in self.moved.items():
            self.assembly.notes.append(
                f"{place}: {counted(len(lines), 'image')} found by the end of a path of another machine "
                f"({examples(lines, 2)})."
            )


def _tree_of(key: str) -> str:
    """Return the tree of an image: everything below a folder ``images``, else its own folder."""
    head, found, _ = f"/{key}".lower().rpartition("/images/")
    return f"{head}/images/" if found else folder_of(key)
