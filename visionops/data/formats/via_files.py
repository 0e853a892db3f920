"""Find and parse files of VGG Image Annotator."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from visionops.data.fast_json import parse_json, require_unicode
from visionops.data.findings import Code
from visionops.data.formats.assembly import examples, fold_name
from visionops.data.formats.cells import head_rows, read_rows
from visionops.data.formats.shapes import printable
from visionops.data.formats.via_values import has_value, is_text
from visionops.data.listing import Listing
from visionops.errors import AnnotationError

__all__ = [
    "MOST_SAMPLED",
    "Content",
    "Region",
    "ViaImage",
    "explain_absence",
    "find_json",
    "find_tables",
    "is_table_3",
    "read_json",
    "read_table",
]

_HEAD_BYTES = 65_536
MOST_SAMPLED = 40
_COLUMNS = ("filename", "region_shape_attributes", "region_attributes")
_MARKS = (
    (b'"_via_img_metadata"',),
    (b'"filename"', b'"regions"'),
    (b'"project"', b'"vid_list"'),
)
"""Keys near the start of a file."""
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
"""Numbers of shapes in VIA 3."""
_IMAGE_TYPE_3 = 2


@dataclasses.dataclass
class Region:
    """One shape with its attributes, as in the file."""

    shape: dict[str, Any]
    attributes: dict[str, Any]
    where: str


@dataclasses.dataclass
class ViaImage:
    """One image with its regions."""

    filename: str
    where: str
    regions: list[Region]
    has_attributes: bool = False
    """Whether the image as a whole has attributes."""


@dataclasses.dataclass
class Content:
    """Content of one file."""

    file: str
    images: list[ViaImage]
    base: str = ""
    """The project's default path of images."""
    options: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    """Maps a folded attribute name to its possible values, in order."""
    has_attributes: bool = False
    """Whether it defines an attribute of regions, set or not."""
    problems: list[tuple[Code, str, str]] = dataclasses.field(default_factory=list)
    """Code, place and message of each region and image that cannot be read."""
    left_out: Counter[str] = dataclasses.field(default_factory=Counter)

    def signature(self) -> str:
        """Return the content in a form that can be compared with other files."""
        rows = [[i.filename, [[r.shape, r.attributes] for r in i.regions]] for i in self.images]
        return json.dumps(sorted(rows, key=lambda row: str(row[0])), sort_keys=True, default=str)


def find_json(listing: Listing, most: int | None = None) -> list[str]:
    """Return the names of VIA's JSON files, sorted; with ``most``, inspect only that many of the largest files."""
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


def _kind(raw: Any) -> Callable[[Content, dict[str, Any]], None] | None:
    """Return the function that reads a parsed JSON file; None if it is not from VIA."""
    if not isinstance(raw, dict):
        return None
    if isinstance(raw.get("_via_img_metadata"), dict):
        return _add_project
    if all(isinstance(raw.get(key), dict) for key in _VIA_3):
        return _add_project_3
    entries = [value for value in list(raw.values())[:20] if isinstance(value, dict)]
    fits = [e for e in entries if isinstance(e.get("filename"), str) and isinstance(e.get("regions"), list | dict)]
    return _add_images if fits and 2 * len(fits) >= len(entries) else None


def find_tables(listing: Listing) -> list[str]:
    """Return the names of VIA's CSV files, sorted."""
    return sorted(name for name in listing.by_suffix.get(".csv", ())[:MOST_SAMPLED] if _is_table(listing, name))


def _is_table(listing: Listing, name: str) -> bool:
    rows = head_rows(listing.path(name), ",")
    return bool(rows) and set(_COLUMNS) <= set(_header(rows[0][1]))


def is_table_3(listing: Listing, name: str) -> bool:
    """Return whether a file is a CSV of VIA 3, which is refused."""
    try:
        with listing.path(name).open("rb") as stream:
            return b"VGG Image Annotator" in stream.readline(400)
    except (OSError, ValueError):
        return False


def _header(cells: list[str]) -> list[str]:
    return [cell.lstrip("# ").lower() for cell in cells]


def explain_absence(listing: Listing) -> None:
    """Raise an error that explains why there is nothing to read.

    Raises:
        AnnotationError: Always.
    """
    for name in listing.by_suffix.get(".csv", ())[:MOST_SAMPLED]:
        if is_table_3(listing, name):
            raise AnnotationError(f"{listing.path(name)}: CSV of VIA 3 is not read; save the project (JSON) instead")
    candidates = listing.by_suffix.get(".json", [])
    if len(candidates) == 1:
        listing.read_json(candidates[0])
    known = examples(candidates) or "none"
    raise AnnotationError(
        f"{listing.root}: no JSON or CSV file below it is of VGG Image Annotator (JSON files: {known}); "
        "set data.source.path or data.format"
    )


def read_json(listing: Listing, file: str) -> Content:
    """Read a project or an export in JSON, of any version.

    Raises:
        AnnotationError: It is malformed.
    """
    raw = listing.read_json(file)
    content = Content(file, [])
    add = _kind(raw)
    if add is not None:
        add(content, raw)
    return content


def _add_project(content: Content, raw: dict[str, Any]) -> None:
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


def _add_images(content: Content, raw: dict[str, Any]) -> None:
    shown = printable(content.file)
    for index, (key, entry) in enumerate(raw.items(), start=1):
        where = f"{shown}: image {index}"
        declared = entry.get("filename") if isinstance(entry, dict) else None
        if not isinstance(declared, str) or not declared.strip():
            problem = f"{key[:60]!r} has no filename; export the annotations again"
            content.problems.append((Code.UNKNOWN_IMAGE, where, problem))
            continue
        regions = entry.get("regions", [])
        values = regions.values() if isinstance(regions, dict) else regions  # VIA 1 uses numbers as keys
        image = ViaImage(declared.strip(), where, [], has_value(entry.get("file_attributes")))
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
            image.regions.append(Region(shape, attributes if isinstance(attributes, dict) else {}, place))
        content.images.append(image)


def _add_project_3(content: Content, raw: dict[str, Any]) -> None:
    """Read views with one image each; their metadata with a shape is a region, without one it is about the image."""
    shown = printable(content.file)
    images: dict[str, ViaImage] = {}
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
        images[view_id] = ViaImage(declared.strip(), f"{shown}: view {printable(view_id[:60])}", [])
    attributes = {key: value for key, value in raw["attribute"].items() if isinstance(value, dict)}
    content.has_attributes = any("XY0" not in str(value.get("anchor_id", "")) for value in attributes.values())
    for value in attributes.values():
        options, name = value.get("options"), value.get("aname")
        if isinstance(options, dict) and isinstance(name, str):
            content.options[fold_name(name)] = [printable(o.strip()) for o in options.values() if is_text(o)]
    for key, entry in raw["metadata"].items():
        where = f"{shown}: metadata {printable(key[:60])}"
        image = images.get(str(entry.get("vid"))) if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or (image is None and str(entry.get("vid")) not in raw["view"]):
            content.problems.append((Code.UNKNOWN_IMAGE, where, "belongs to no view; remove it"))
        elif image is not None:
            values = _values_3(entry.get("av"), attributes)
            shape = _shape_3(entry.get("xy"))
            if shape is None:
                image.has_attributes |= has_value(values)
            else:
                image.regions.append(Region(shape, values, where))
    content.images += images.values()


def _values_3(raw: Any, attributes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a mapping of attribute names to values; numbered options become their texts."""
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
    """Convert VIA 3's ``[number of the shape, x, y, …]`` to VIA 2's form; return None if there is no shape."""
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


def read_table(listing: Listing, file: str) -> Content:
    """Read a CSV with one row per region, or one row for an image without regions.

    Raises:
        AnnotationError: It is not a CSV, or a row has another number of cells than the header.
    """
    content = Content(file, [])
    rows = read_rows(listing.path(file), ",")
    header = _header(next(rows, (1, []))[1])
    name_at, shape_at, region_at = (header.index(column) for column in _COLUMNS)
    file_at = header.index("file_attributes") if "file_attributes" in header else None
    images: dict[str, ViaImage] = {}
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
        image = images.setdefault(declared, ViaImage(declared, where, []))
        image.has_attributes |= file_at is not None and has_value(_cell(cells[file_at]))
        shape, attributes = _cell(cells[shape_at]), _cell(cells[region_at])
        if shape is None or attributes is None:
            problem = "a cell of attributes is not a JSON object; export the annotations again"
            content.problems.append((Code.BAD_BOX, where, problem))
        elif shape:
            image.regions.append(Region(shape, attributes, where))
    content.images += images.values()
    return content


def _cell(text: str) -> dict[str, Any] | None:
    """Return the JSON object in a cell, {} for an empty cell; None if it is something else."""
    if not text:
        return {}
    try:
        data = text.encode("utf-8", "surrogatepass")
        raw = parse_json(data)
        require_unicode(data, raw)
    except (ValueError, RecursionError):
        return None
    return raw if isinstance(raw, dict) else None
