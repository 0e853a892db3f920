"""Read VGG Image Annotator: projects and exports of VIA 1 and 2 in JSON and CSV, and projects of VIA 3.

Coordinates are continuous, in pixels from 0. Each region has a shape and attributes; one attribute is the class.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from visionops.data.dataset import Dataset, Split
from visionops.data.findings import Code, counted
from visionops.data.formats.assembly import DROPPED, Assembly, ImageEntry, examples, fold_name
from visionops.data.formats.names import EXACT_BASES, Bases, resolve_name
from visionops.data.formats.protocol import Evidence, Strength
from visionops.data.formats.shapes import Box, ShapeCounts, printable
from visionops.data.formats.splits import split_of_file, split_of_folders
from visionops.data.formats.via_files import (
    MOST_SAMPLED,
    Content,
    Region,
    ViaImage,
    explain_absence,
    find_json,
    find_tables,
    is_table_3,
    read_json,
    read_table,
)
from visionops.data.formats.via_shapes import BOXES
from visionops.data.formats.via_values import is_set, labels_of
from visionops.data.listing import Listing, folder_of
from visionops.data.settings import DataConfig
from visionops.errors import AnnotationError

__all__ = ["detect", "read"]

_CLASS_WORDS = ("class", "classname", "label", "labelname", "type", "name", "object", "category")
"""Names of the attribute that is the class if there are several; best first."""
_ONE_CLASS = "object"
"""Class of regions without attributes."""


def detect(listing: Listing, data: DataConfig) -> Evidence | None:
    """Find VIA's JSON and CSV files by their heads."""
    del data
    files = find_json(listing, MOST_SAMPLED)
    tables = find_tables(listing)
    if files or tables:
        reasons = [f"{name} has images with regions" for name in files[:2]]
        reasons += [f"{name} has the columns of VIA" for name in tables[:2]]
        shown = counted(len(files) + len(tables), "file")
        return Evidence(Strength.SURE, f"VGG Image Annotator, {shown}", tuple(reasons))
    refused = [name for name in listing.by_suffix.get(".csv", ())[:MOST_SAMPLED] if is_table_3(listing, name)]
    if refused:
        return Evidence(Strength.LIKELY, "a CSV of VIA 3", (f"{refused[0]} has its first line",))
    return None


def read(listing: Listing, data: DataConfig, name: str) -> Dataset:
    """Read all VIA files; a file with the same content as another one beside it counts once.

    File names are relative to the file's folder or to the project's default path. The only attribute of the regions is
    the class; with several, the one called class, label, type, name, object or category. If none is defined, all
    regions have one class, ``object``. Classes are in the order of the attribute's options, else sorted.

    Raises:
        AnnotationError: There is no such file, a file is malformed, or no attribute is clearly the class.
    """
    del data
    contents = [read_json(listing, file) for file in find_json(listing)]
    contents += [read_table(listing, file) for file in find_tables(listing)]
    if not contents:
        explain_absence(listing)
    reader = _Reader(listing, contents)
    return reader.dataset(name)


class _Reader:
    """Joins all files into one data set."""

    def __init__(self, listing: Listing, contents: list[Content]) -> None:
        self.listing = listing
        self.assembly = Assembly(listing)
        self.tally = ShapeCounts()
        self.contents = self._without_copies(contents)

    def _without_copies(self, contents: list[Content]) -> list[Content]:
        """Leave out files with the same content as another one in their folder, such as an export and its project."""
        # A project has more than its export: the order of classes and the folder of images.
        order = sorted(contents, key=lambda c: (not c.options, not c.base, c.file))
        known: dict[tuple[str, str], str] = {}
        kept: set[str] = set()
        for content in order:
            first = known.setdefault((folder_of(content.file), content.signature()), content.file)
            if first == content.file:
                kept.add(content.file)
            else:
                self.assembly.notes.append(
                    f"{printable(content.file)} has the same regions as {printable(first)} and is left out."
                )
        return [content for content in contents if content.file in kept]

    def dataset(self, name: str) -> Dataset:
        assembly = self.assembly
        attribute = self._class_attribute()
        declared = list(dict.fromkeys(o for c in self.contents for o in c.options.get(attribute, ())))
        for option in declared:
            assembly.classes.id_of(option)
        splits = [self._split_of(content) for content in self.contents]
        given = {split for split, _ in splits} | {split for _, own in splits for split in own}
        several = len(given - {Split.NONE}) > 1  # a single word names the origin of the data, not a split
        found: list[tuple[int, str, Box, str]] = []
        bare: dict[int, bool] = {}
        for content in self.contents:
            assembly.reserve((i.filename for i in content.images if ".." not in i.filename), self._bases(content))
        for content, (of_file, own) in zip(self.contents, splits, strict=True):
            for code, where, message in content.problems:
                assembly.found(code, where, message)
            parts = [(part or of_file) if several else Split.NONE for part in own]
            for image, row in zip(content.images, self._add_images(content, parts), strict=True):
                boxes, skipped = self._boxes(image, attribute)
                found += [(row, *box) for box in boxes]
                if row != DROPPED:
                    bare[row] = bare.get(row, True) and skipped and not boxes
        self._order_classes([label for _, label, _, _ in found])
        for row, label, box, where in found:
            assembly.add_box(row, label, box, where)
        hidden = {row for row, is_bare in bare.items() if is_bare}
        self.tally.report_bare(assembly, sorted(assembly.keys[row] for row in hidden))
        self._note()
        return assembly.dataset(name, leave_out=hidden)

    def _regions(self) -> Iterator[Region]:
        return (region for content in self.contents for image in content.images for region in image.regions)

    def _class_attribute(self) -> str:
        """Return the folded name of the attribute that is the class.

        Raises:
            AnnotationError: There is no such attribute, or it is ambiguous.
        """
        file = self.listing.path(self.contents[0].file)
        used: dict[str, str] = {}
        any_region = False
        for region in self._regions():
            any_region = True
            for name, value in region.attributes.items():
                if is_set(value):
                    used.setdefault(fold_name(name), name)
        if not any_region:
            if any(image.has_attributes for content in self.contents for image in content.images):
                raise AnnotationError(
                    f"{file}: the images have attributes (classes of whole images) and no regions; sort the images "
                    "into a folder per class and set data.format: folders, or draw regions"
                )
            return ""
        if len(used) == 1:
            return next(iter(used))
        if not used:
            if any(c.has_attributes for c in self.contents) or any(region.attributes for region in self._regions()):
                raise AnnotationError(f"{file}: no region has an attribute that is set; set it in VIA")
            self.assembly.notes.append(f"No attribute of the regions is defined: their class is {_ONE_CLASS!r}.")
            return ""
        words = {"".join(filter(str.isalnum, folded)): folded for folded in sorted(used, reverse=True)}
        chosen = next((words[word] for word in _CLASS_WORDS if word in words), None)
        names = ", ".join(map(repr, sorted(map(printable, used.values()))))
        if chosen is None:
            raise AnnotationError(
                f"{file}: the regions have {len(used)} attributes, {names[:300]}, and none is called class; rename the "
                "one that is the class to class in VIA"
            )
        self.assembly.notes.append(
            f"Attribute {used[chosen]!r} of the regions is the class; of {names[:300]}, the others are left out."
        )
        return chosen

    def _split_of(self, content: Content) -> tuple[Split, list[Split]]:
        """Return the split from names and folders of the file, and the splits from the folders of its images."""
        of_file = split_of_file(content.file)
        return of_file, [split_of_folders(image.filename.replace("\\", "/")) for image in content.images]

    def _add_images(self, content: Content, splits: list[Split]) -> list[int]:
        """Return the row of each image, or `DROPPED`."""
        rows = [DROPPED] * len(content.images)
        folder = folder_of(content.file)
        groups: dict[bool, list[tuple[int, ImageEntry]]] = {False: [], True: []}
        for i, (image, split) in enumerate(zip(content.images, splits, strict=True)):
            climbs = ".." in image.filename and "://" not in image.filename
            resolved = resolve_name(folder, image.filename) if climbs else None
            groups[resolved is not None].append((i, ImageEntry(resolved or image.filename, image.where, split)))
        for is_resolved, members in groups.items():
            bases = EXACT_BASES if is_resolved else self._bases(content)
            added = self.assembly.add_images([entry for _, entry in members], bases)
            for (i, _), row in zip(members, added, strict=True):
                rows[i] = row
        return rows

    def _bases(self, content: Content) -> Bases:
        folder = folder_of(content.file)
        here = f"{folder}/" if folder else ""
        above = f"{folder_of(folder)}/" if folder_of(folder) else ""
        base = resolve_name(folder, content.base) if content.base else None
        ranks = [(f"{base}/",)] if base else []
        ranks += [(f"{start}{images}",) for start in (here, above, "") for images in ("", "images/")]
        return tuple(dict.fromkeys(ranks))

    def _boxes(self, image: ViaImage, attribute: str) -> tuple[list[tuple[str, Box, str]], bool]:
        """Return class, box and place of each region, and whether a region was left out."""
        found: list[tuple[str, Box, str]] = []
        skipped = False
        for region in image.regions:
            kind = region.shape.get("name")
            kind = kind if isinstance(kind, str) else ""
            make = BOXES.get(kind)
            if make is None:
                self.tally.left_out[printable(kind)[:30] or "shape without a name"] += 1
                skipped = True
                continue
            values = (value for name, value in region.attributes.items() if fold_name(name) == attribute)
            labels = labels_of(next(values, None)) if attribute else [_ONE_CLASS]
            if len(labels) != 1:
                what = "no class" if not labels else f"{len(labels)} classes ({examples(labels)})"
                message = f"the region has {what}; set exactly one in VIA"
                self.assembly.found(Code.UNKNOWN_CATEGORY, region.where, message)
                skipped = True
                continue
            if kind != "rect":
                self.tally.bounded[kind] += 1
            found.append((labels[0], make(region.shape), region.where))
        return found, skipped

    def _order_classes(self, labels: Iterable[str]) -> None:
        """Set the ids of classes that no options declare, sorted."""
        spellings: dict[str, str] = {}
        for label in labels:
            spellings.setdefault(fold_name(label), label)
        for label in sorted(spellings.values()):
            self.assembly.classes.id_of(label)

    def _note(self) -> None:
        for content in self.contents:
            self.tally.left_out += content.left_out
        self.tally.add_notes(self.assembly.notes)
        whole = sum(image.has_attributes for content in self.contents for image in content.images)
        if whole:
            self.assembly.notes.append(f"The attributes of {counted(whole, 'image')} as a whole are left out.")
