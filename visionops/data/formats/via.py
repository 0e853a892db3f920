"""VGG Image Annotator: projects and exports of VIA 1 and 2 in JSON and CSV, and projects of VIA 3.

Coordinates are continuous, in pixels from 0. Each region has a shape and attributes; one attribute is the class.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from visionops.data.dataset import Dataset, Split
from visionops.data.fast_json import parse_json, require_unicode
from visionops.data.findings import Code, counted
from visionops.data.formats.assembly import DROPPED, Assembly, ImageEntry, examples, fold_name
from visionops.data.formats.cells import head_rows, read_rows
from visionops.data.formats.names import EXACT_BASES, Bases, resolve_name
from visionops.data.formats.protocol import Evidence, Strength
from visionops.data.formats.shapes import NO_BOX, Box, Tally, around, bounds, number, printable
from visionops.data.formats.splits import split_of_file, split_of_folders
from visionops.data.listing import Listing, folder_of
from visionops.data.settings import DataConfig
from visionops.errors import AnnotationError

__all__ = ["detect", "read"]

_HEAD_BYTES = 65_536
_MOST_SAMPLED = 40
_CLASS_WORDS = ("class", "classname", "label", "labelname", "type", "name", "object", "category")
"""Names of the attribute that is the class, where there are several; best first."""
_ONE_CLASS = "object"
"""The class of regions that no attribute describes."""
_COLUMNS = ("filename", "region_shape_attributes", "region_attributes")
_MARKS = (
    (b'"_via_img_metadata"',),
    (b'"filename"', b'"regions"'),
    (b'"project"', b'"vid_list"'),
)
"""Keys that stand near the start of a file."""
_VIA_3 = ("project", "attribute", "file", "metadata", "view")
_KINDS_3 = {
    1: "point",
    2: "rect",
    3: "circle",
    4: "ellipse",
    5: "line",
    6: "polyline",
    7: "polygon",
    8: "extreme_rect",
    9: "extreme_circle",
}
"""VIA 3's numbers of shapes."""
_IMAGE_TYPE_3 = 2


def detect(listing: Listing, data: DataConfig) -> Evidence | None:
    """Find VIA's JSON and CSV files by their heads."""
    del data
    files = _find_json(listing, _MOST_SAMPLED)
    tables = _find_tables(listing)
    if files or tables:
        reasons = [f"{name} has images with regions" for name in files[:2]]
        reasons += [f"{name} has the columns of VIA" for name in tables[:2]]
        shown = counted(len(files) + len(tables), "file")
        return Evidence(Strength.SURE, f"VGG Image Annotator, {shown}", tuple(reasons))
    refused = [name for name in listing.by_suffix.get(".csv", ())[:_MOST_SAMPLED] if _is_table_3(listing, name)]
    if refused:
        return Evidence(Strength.LIKELY, "a CSV of VIA 3", (f"{refused[0]} says so in its first line",))
    return None


def read(listing: Listing, data: DataConfig, name: str) -> Dataset:
    """Read all files of VIA; a file that says the same as another one beside it counts once.

    File names are relative to the file's folder or to the project's default path. The only attribute of the regions is
    the class; of several, the one called class, label, type, name, object or category. Where none is defined, all
    regions are of one class, ``object``. Classes are in the order of the attribute's options, else sorted.

    Raises:
        AnnotationError: There is no such file, one is malformed, or no attribute is clearly the class.
    """
    del data
    contents = [_read_json(listing, file) for file in _find_json(listing)]
    contents += [_read_table(listing, file) for file in _find_tables(listing)]
    if not contents:
        _explain_absence(listing)
    reader = _Reader(listing, contents)
    return reader.dataset(name)


@dataclasses.dataclass
class _Region:
    shape: dict[str, Any]
    attributes: dict[str, Any]
    where: str


@dataclasses.dataclass
class _Image:
    filename: str
    where: str
    regions: list[_Region]
    has_attributes: bool = False
    """Whether the image as a whole has attributes."""


@dataclasses.dataclass
class _Content:
    """What one file says."""

    file: str
    images: list[_Image]
    base: str = ""
    """The project's default path of images."""
    options: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    """Folded attribute name to the values it may have, in their order."""
    has_attributes: bool = False
    """Whether it defines an attribute of regions, set or not."""
    problems: list[tuple[Code, str, str]] = dataclasses.field(default_factory=list)
    """Code, place and message of each region and image that cannot be read."""
    left_out: Counter[str] = dataclasses.field(default_factory=Counter)

    def signature(self) -> str:
        """What the file says, for comparing it with others."""
        rows = [[i.filename, [[r.shape, r.attributes] for r in i.regions]] for i in self.images]
        return json.dumps(sorted(rows, key=lambda row: str(row[0])), sort_keys=True, default=str)


def _find_json(listing: Listing, most: int | None = None) -> list[str]:
    candidates = listing.by_suffix.get(".json", [])
    if most is not None and len(candidates) > most:  # a VIA file holds many images
        candidates = sorted(candidates, key=lambda name: -listing.files[name].num_bytes)[:most]
    return sorted(name for name in candidates if _is_via_file(listing, name))


def _is_via_file(listing: Listing, name: str) -> bool:
    try:
        with listing.path(name).open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except (OSError, ValueError):
        return False
    if not any(all(mark in head for mark in marks) for marks in _MARKS):
        return False
    try:
        return _kind(listing.read_json(name, keep=True)) is not None
    except AnnotationError:
        return False


def _kind(raw: Any) -> Callable[[_Content, dict[str, Any]], None] | None:
    """How a parsed JSON file is to be read; None where it is not of VIA."""
    if not isinstance(raw, dict):
        return None
    if isinstance(raw.get("_via_img_metadata"), dict):
        return _add_project
    if all(isinstance(raw.get(key), dict) for key in _VIA_3):
        return _add_project_3
    entries = [value for value in list(raw.values())[:20] if isinstance(value, dict)]
    fits = [e for e in entries if isinstance(e.get("filename"), str) and isinstance(e.get("regions"), list | dict)]
    return _add_images if fits and 2 * len(fits) >= len(entries) else None


def _find_tables(listing: Listing) -> list[str]:
    return sorted(name for name in listing.by_suffix.get(".csv", ())[:_MOST_SAMPLED] if _is_table(listing, name))


def _is_table(listing: Listing, name: str) -> bool:
    rows = head_rows(listing.path(name), ",")
    return bool(rows) and set(_COLUMNS) <= set(_header(rows[0][1]))


def _is_table_3(listing: Listing, name: str) -> bool:
    try:
        with listing.path(name).open("rb") as stream:
            return b"VGG Image Annotator" in stream.readline(400)
    except (OSError, ValueError):
        return False


def _header(cells: list[str]) -> list[str]:
    return [cell.lstrip("# ").lower() for cell in cells]


def _explain_absence(listing: Listing) -> None:
    """Say why there is nothing to read.

    Raises:
        AnnotationError: Always.
    """
    for name in listing.by_suffix.get(".csv", ())[:_MOST_SAMPLED]:
        if _is_table_3(listing, name):
            raise AnnotationError(f"{listing.path(name)}: CSV of VIA 3 is not read; save the project (JSON) instead")
    candidates = listing.by_suffix.get(".json", [])
    if len(candidates) == 1:
        listing.read_json(candidates[0])
    known = examples(candidates) or "none"
    raise AnnotationError(
        f"{listing.root}: no JSON or CSV file below it is of VGG Image Annotator (JSON files: {known}); "
        "set data.source.path or data.format"
    )


def _read_json(listing: Listing, file: str) -> _Content:
    raw = listing.read_json(file)
    content = _Content(file, [])
    add = _kind(raw)
    if add is not None:
        add(content, raw)
    return content


def _add_project(content: _Content, raw: dict[str, Any]) -> None:
    _add_images(content, raw["_via_img_metadata"])
    settings = raw.get("_via_settings")
    core = settings.get("core") if isinstance(settings, dict) else None
    base = core.get("default_filepath") if isinstance(core, dict) else None
    content.base = base.strip() if isinstance(base, str) else ""
    declared = raw.get("_via_attributes")
    regions = declared.get("region") if isinstance(declared, dict) else None
    content.has_attributes = bool(regions)
    for name, attribute in regions.items() if isinstance(regions, dict) else ():
        options = attribute.get("options") if isinstance(attribute, dict) else None
        if isinstance(options, dict):
            content.options[fold_name(name)] = [printable(o.strip()) for o in options if o.strip()]


def _add_images(content: _Content, raw: dict[str, Any]) -> None:
    shown = printable(content.file)
    for index, (key, entry) in enumerate(raw.items(), start=1):
        where = f"{shown}: image {index}"
        declared = entry.get("filename") if isinstance(entry, dict) else None
        if not isinstance(declared, str) or not declared.strip():
            problem = f"{key[:60]!r} has no filename; export the annotations again"
            content.problems.append((Code.UNKNOWN_IMAGE, where, problem))
            continue
        regions = entry.get("regions", [])
        values = regions.values() if isinstance(regions, dict) else regions  # VIA 1 numbers them by keys
        image = _Image(declared.strip(), where, [], _has_value(entry.get("file_attributes")))
        if not isinstance(regions, list | dict):
            content.problems.append((Code.BAD_BOX, where, '"regions" must be a list; export the annotations again'))
            continue
        for number_, region in enumerate(values, start=1):
            place = f"{where}, region {number_}"
            shape = region.get("shape_attributes") if isinstance(region, dict) else None
            if not isinstance(shape, dict):
                content.problems.append((Code.BAD_BOX, place, "has no shape_attributes; draw or remove it"))
                continue
            attributes = region.get("region_attributes")
            image.regions.append(_Region(shape, attributes if isinstance(attributes, dict) else {}, place))
        content.images.append(image)


def _add_project_3(content: _Content, raw: dict[str, Any]) -> None:
    """Views of one image each; metadata of a view with a shape is a region, without one it is about the image."""
    shown = printable(content.file)
    images: dict[str, _Image] = {}
    for view_id, view in raw["view"].items():
        files = view.get("fid_list") if isinstance(view, dict) else None
        file = raw["file"].get(str(files[0])) if isinstance(files, list) and len(files) == 1 else None
        if not isinstance(file, dict) or file.get("type") != _IMAGE_TYPE_3:
            content.left_out["view without a single image"] += 1
            continue
        declared = file.get("src") if file.get("loc") not in (1, "1") else file.get("fname")
        declared = declared if isinstance(declared, str) and declared.strip() else file.get("fname")
        if not isinstance(declared, str) or not declared.strip() or declared.startswith("data:"):
            place = f"{shown}: view {printable(view_id[:60])}"
            content.problems.append((Code.UNKNOWN_IMAGE, place, "its file has no name; export the project again"))
            continue
        images[view_id] = _Image(declared.strip(), f"{shown}: view {printable(view_id[:60])}", [])
    attributes = {key: value for key, value in raw["attribute"].items() if isinstance(value, dict)}
    content.has_attributes = any("XY0" not in str(value.get("anchor_id", "")) for value in attributes.values())
    for value in attributes.values():
        options, name = value.get("options"), value.get("aname")
        if isinstance(options, dict) and isinstance(name, str):
            content.options[fold_name(name)] = [printable(o.strip()) for o in options.values() if _is_text(o)]
    for key, entry in raw["metadata"].items():
        where = f"{shown}: metadata {printable(key[:60])}"
        image = images.get(str(entry.get("vid"))) if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or (image is None and str(entry.get("vid")) not in raw["view"]):
            content.problems.append((Code.UNKNOWN_IMAGE, where, "belongs to no view; remove it"))
        elif image is not None:
            values = _values_3(entry.get("av"), attributes)
            shape = _shape_3(entry.get("xy"))
            if shape is None:
                image.has_attributes |= _has_value(values)
            else:
                image.regions.append(_Region(shape, values, where))
    content.images += images.values()


def _values_3(raw: Any, attributes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Attribute name to value; of options, which are numbered, their texts."""
    values: dict[str, Any] = {}
    for key, value in raw.items() if isinstance(raw, dict) else ():
        attribute = attributes.get(key, {})
        name, options = attribute.get("aname"), attribute.get("options")
        if isinstance(options, dict) and options and isinstance(value, str):
            chosen = [part for part in value.split(",") if part]
            value = {str(options.get(part, part)): True for part in chosen} if len(chosen) > 1 else options.get(value)  # noqa: PLW2901
        values[name if isinstance(name, str) else key] = value
    return values


def _shape_3(xy: Any) -> dict[str, Any] | None:
    """VIA 3's ``[number of the shape, x, y, …]`` as VIA 2 writes it; None where there is no shape."""
    if not isinstance(xy, list) or not xy:
        return None
    kind = _KINDS_3.get(xy[0], "") if type(xy[0]) is int else ""
    rest = xy[1:]
    if kind == "rect":
        return {"name": kind, **dict(zip(("x", "y", "width", "height"), rest, strict=False))}
    if kind in ("circle", "ellipse"):
        names = ("cx", "cy", "r") if kind == "circle" else ("cx", "cy", "rx", "ry")
        return {"name": kind, **dict(zip(names, rest, strict=False))}
    if kind == "extreme_rect":
        kind = "polygon"
    return {"name": kind or f"shape {str(xy[0])[:20]}", "all_points_x": rest[0::2], "all_points_y": rest[1::2]}


def _read_table(listing: Listing, file: str) -> _Content:
    """Read a CSV with a row a region, or a row for an image without any.

    Raises:
        AnnotationError: It is not a CSV, or a row has another number of cells.
    """
    content = _Content(file, [])
    rows = read_rows(listing.path(file), ",")
    header = _header(next(rows, (1, []))[1])
    name_at, shape_at, region_at = (header.index(column) for column in _COLUMNS)
    file_at = header.index("file_attributes") if "file_attributes" in header else None
    images: dict[str, _Image] = {}
    for line, cells in rows:
        if len(cells) != len(header):
            raise AnnotationError(
                f"{listing.path(file)}:{line}: has {len(cells)} cells, and the header {len(header)}; export it again"
            )
        where = f"{printable(file)}:{line}"
        declared = cells[name_at]
        if not declared:
            content.problems.append((Code.UNKNOWN_IMAGE, where, "has no filename; export the annotations again"))
            continue
        image = images.setdefault(declared, _Image(declared, where, []))
        image.has_attributes |= file_at is not None and _has_value(_cell(cells[file_at]))
        shape, attributes = _cell(cells[shape_at]), _cell(cells[region_at])
        if shape is None or attributes is None:
            problem = "a cell of attributes is not a JSON object; export the annotations again"
            content.problems.append((Code.BAD_BOX, where, problem))
        elif shape:
            image.regions.append(_Region(shape, attributes, where))
    content.images += images.values()
    return content


def _cell(text: str) -> dict[str, Any] | None:
    """The JSON object in a cell, empty where the cell is; None where it is something else."""
    if not text:
        return {}
    try:
        data = text.encode("utf-8", "surrogatepass")
        raw = parse_json(data)
        require_unicode(data, raw)
    except (ValueError, RecursionError):
        return None
    return raw if isinstance(raw, dict) else None


class _Reader:
    """All files of a data set on their way to one."""

    def __init__(self, listing: Listing, contents: list[_Content]) -> None:
        self.listing = listing
        self.assembly = Assembly(listing)
        self.tally = Tally()
        self.contents = self._without_copies(contents)

    def _without_copies(self, contents: list[_Content]) -> list[_Content]:
        """Leave out the files that say what another one in their folder says: an export beside its project."""
        # A project says more than its export: the order of classes and the folder of images.
        order = sorted(contents, key=lambda c: (not c.options, not c.base, c.file))
        known: dict[tuple[str, str], str] = {}
        kept: set[str] = set()
        for content in order:
            first = known.setdefault((folder_of(content.file), content.signature()), content.file)
            if first == content.file:
                kept.add(content.file)
            else:
                self.assembly.notes.append(
                    f"{printable(content.file)} holds the same regions as {printable(first)} and is left out."
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
        several = len(given - {Split.NONE}) > 1  # one word says where the data come from, not what to split
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

    def _regions(self) -> Iterator[_Region]:
        return (region for content in self.contents for image in content.images for region in image.regions)

    def _class_attribute(self) -> str:
        """The folded name of the attribute that is the class.

        Raises:
            AnnotationError: There is none, or it is not clear which it is.
        """
        file = self.listing.path(self.contents[0].file)
        used: dict[str, str] = {}
        any_region = False
        for region in self._regions():
            any_region = True
            for name, value in region.attributes.items():
                if _is_set(value):
                    used.setdefault(fold_name(name), name)
        if not any_region:
            if any(image.has_attributes for content in self.contents for image in content.images):
                raise AnnotationError(
                    f"{file}: the images have attributes (classes of whole images) and no regions; sort the images "
                    "into a folder a class and set data.format: folders, or draw regions"
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

    def _split_of(self, content: _Content) -> tuple[Split, list[Split]]:
        """The split that names and folders of the file say, and those that the folders of its images say."""
        of_file = split_of_file(content.file)
        return of_file, [split_of_folders(image.filename.replace("\\", "/")) for image in content.images]

    def _add_images(self, content: _Content, splits: list[Split]) -> list[int]:
        """The row of each image, or `DROPPED`."""
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

    def _bases(self, content: _Content) -> Bases:
        folder = folder_of(content.file)
        here = f"{folder}/" if folder else ""
        above = f"{folder_of(folder)}/" if folder_of(folder) else ""
        base = resolve_name(folder, content.base) if content.base else None
        ranks = [(f"{base}/",)] if base else []
        ranks += [(f"{start}{images}",) for start in (here, above, "") for images in ("", "images/")]
        return tuple(dict.fromkeys(ranks))

    def _boxes(self, image: _Image, attribute: str) -> tuple[list[tuple[str, Box, str]], bool]:
        """Class, box and place of each region, and whether one was left out."""
        found: list[tuple[str, Box, str]] = []
        skipped = False
        for region in image.regions:
            kind = region.shape.get("name")
            kind = kind if isinstance(kind, str) else ""
            make = _BOXES.get(kind)
            if make is None:
                self.tally.left_out[printable(kind)[:30] or "shape without a name"] += 1
                skipped = True
                continue
            values = (value for name, value in region.attributes.items() if fold_name(name) == attribute)
            labels = _labels(next(values, None)) if attribute else [_ONE_CLASS]
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
        """Give the classes that no options declare their ids, sorted."""
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


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_set(value: Any) -> bool:
    return bool(_labels(value))


def _has_value(attributes: Any) -> bool:
    """Whether one of several attributes is set."""
    return isinstance(attributes, dict) and any(map(_is_set, attributes.values()))


def _labels(value: Any) -> list[str]:
    """The classes that the value of an attribute names: a text, a number, or the ticked ones of checkboxes."""
    if isinstance(value, dict):
        return [printable(name.strip()) for name, ticked in value.items() if ticked in (True, "true") and name.strip()]
    if type(value) is int:
        return [str(value)] if abs(value) < 1 << 63 else []
    return [printable(value.strip())] if _is_text(value) else []


def _numbers(shape: dict[str, Any], *keys: str) -> list[float]:
    return [number(shape.get(key)) for key in keys]


def _rect(shape: dict[str, Any]) -> Box:
    x, y, width, height = _numbers(shape, "x", "y", "width", "height")
    return x, y, x + width, y + height


def _circle(shape: dict[str, Any]) -> Box:
    cx, cy, radius = _numbers(shape, "cx", "cy", "r")
    return around(cx, cy, radius, radius)


def _ellipse(shape: dict[str, Any]) -> Box:
    """Half axes, and from VIA 2.0.8 on the angle in radians."""
    cx, cy, rx, ry = _numbers(shape, "cx", "cy", "rx", "ry")
    theta = number(shape.get("theta", 0))
    if not all(map(math.isfinite, (rx, ry, theta))) or rx < 0 or ry < 0:
        return NO_BOX
    cos, sin = math.cos(theta), math.sin(theta)
    return around(cx, cy, math.hypot(rx * cos, ry * sin), math.hypot(rx * sin, ry * cos))


def _polygon(shape: dict[str, Any]) -> Box:
    xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
    if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys) or len(xs) < 3:
        return NO_BOX
    return bounds([(number(x), number(y)) for x, y in zip(xs, ys, strict=True)])


_BOXES: dict[str, Callable[[dict[str, Any]], Box]] = {
    "rect": _rect,
    "circle": _circle,
    "ellipse": _ellipse,
    "polygon": _polygon,
}
"""Shape to the box around it. Points, lines and polylines have none."""
