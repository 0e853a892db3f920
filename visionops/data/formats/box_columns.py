"""Find the columns of a table of boxes: image, class, box and split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from visionops.data.files import IMAGE_SUFFIXES
from visionops.data.formats.rules import is_missing, number_of
from visionops.data.formats.urls import path_of_url
from visionops.data.listing import suffix_of

__all__ = ["Layout", "explain", "find_layout", "holds_boxes", "padded"]

_SPLIT = ("split", "subset", "set", "partition", "phase", "datasplit")
_IMAGE = (
    *("filename", "filepath", "imagename", "imagepath", "imagefile", "imagefilename", "imgpath", "imgname", "path"),
    *("imageurl", "imgurl", "url", "fileurl", "images", "photo", "picture"),
    *("file", "fname", "image", "img", "imageid", "imgid", "imageindex", "frame", "externalid", "fileid", "name", "id"),
)
"""Names of the image column, the plainest first; in lower case, letters and digits only, like all names below."""
_LABEL = (
    *("classname", "labelname", "categoryname", "class", "label", "category", "objectclass", "objectname", "object"),
    *("findinglabel", "labels", "target", "species", "classid", "labelid", "categoryid", "type", "name"),
)
_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x1", "y1", "x2", "y2"),
    ("x0", "y0", "x1", "y1"),
    ("left", "top", "right", "bottom"),
    ("xtl", "ytl", "xbr", "ybr"),
    ("minx", "miny", "maxx", "maxy"),
    ("xstart", "ystart", "xend", "yend"),
    ("startx", "starty", "endx", "endy"),
    ("tlx", "tly", "brx", "bry"),
    ("xleft", "ytop", "xright", "ybottom"),
    ("topleftx", "toplefty", "bottomrightx", "bottomrighty"),
    ("xtopleft", "ytopleft", "xbottomright", "ybottomright"),
)
_SIZES = (
    ("x", "y", "w", "h"),
    ("x", "y", "width", "height"),
    ("left", "top", "width", "height"),
    ("left", "top", "w", "h"),
    ("xmin", "ymin", "width", "height"),
    ("xmin", "ymin", "w", "h"),
    ("x1", "y1", "width", "height"),
    ("x1", "y1", "w", "h"),
    ("topleftx", "toplefty", "width", "height"),
    ("xtopleft", "ytopleft", "width", "height"),
)
_CENTRES = tuple(
    (x, y, *size)
    for x, y in (
        ("xcenter", "ycenter"), ("xcentre", "ycentre"), ("centerx", "centery"), ("centrex", "centrey"), ("cx", "cy"),
        ("xc", "yc"),
    )
    for size in (("w", "h"), ("width", "height"))
)  # fmt: skip
_QUAD = ("x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4")
_ONE_CELL = frozenset({"bbox", "box", "boundingbox"})
_BOX_PREFIX = re.compile(r"^(?:bbox|box|boundingbox|bndbox|roi)(?=.)")
_IMAGE_SIZE = (("imagewidth", "imageheight"), ("imgwidth", "imgheight"), ("width", "height"), ("w", "h"))
_OF_VIA = frozenset({"regionshapeattributes", "regioncount"})
_GROUPS = ("isgroupof", "iscrowd", "crowd")
_AUTOML_SETS = frozenset({"TRAIN", "VALIDATION", "VALIDATE", "TEST", "UNASSIGNED", ""})
_MOSTLY = 0.9
_SIZED_WIDTH = 8
"""Number of columns of a row with a box and the size of its image."""
_MOST_OF_A_MARK = 10
"""Maximum value of a mark or grade."""
_MOST_NUMBERS = 6
"""Maximum number of numeric columns in a row with a box: the box, and the image size or marks such as occluded."""
_AUTOML_WIDTH = 11
_AUTOML_NAMED = 3
"""Number of columns of a row without a box: set, path, label."""


class Layout(NamedTuple):
    """Index of each column."""

    image: int
    box: tuple[int, ...]
    """Four columns, one column with ``[x, y, width, height]``, or eight columns of four points."""
    kind: str
    """``corners``, ``size``, ``centre`` or ``points``."""
    label: int | None = None
    split: int | None = None
    size: tuple[int, int] | None = None
    """Columns of the image's width and height."""
    groups: int | None = None
    """Column that marks boxes around groups."""
    has_header: bool = True
    fractions: bool = False
    """Whether boxes are fractions of the image by definition of the format."""
    width: int = 0
    """Number of columns."""


def find_layout(rows: Sequence[Sequence[str]]) -> Layout | None:
    """Find the columns of a table from its first rows; return None if it is not a table of boxes, or is ambiguous."""
    if not rows:
        return None
    names = [_plain(name) for name in rows[0]]
    if not _OF_VIA.isdisjoint(names):
        return None
    return _named(names, rows[1:]) or _retinanet(rows) or _automl(rows) or _makesense(rows) or _sku(rows)


def holds_boxes(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether a row of the table is a box, ambiguous or not; VIA's tables count, too."""
    names = {_plain(name) for name in rows[0]}
    is_named = not names.isdisjoint(_OF_VIA) or {"bboxx", "bboxy"} <= names or bool(_boxes(list(names)))
    return is_named or find_layout(rows) is not None or _lacks_header(rows)


def explain(rows: Sequence[Sequence[str]]) -> str:
    """Explain for a message why the columns of a table are ambiguous; return "" if it is not a table of boxes."""
    header = rows[0]
    if _lacks_header(rows):
        return (
            f"rows such as {', '.join(header)[:80]} look like boxes, but have no header; add one, "
            "such as filename,class,xmin,ymin,xmax,ymax"
        )
    names = [_plain(name) for name in header]
    if not _OF_VIA.isdisjoint(names):
        return ""
    kinds = _boxes(names)
    listed = ", ".join(map(repr, header))
    if len(kinds) > 1:
        found = " or ".join(", ".join(header[i] for i in box) for _, box in kinds)
        return f"the columns of the box are ambiguous ({found}; columns: {listed}); remove all but one box"
    parts = {name for names in (*_CORNERS, *_SIZES, *_CENTRES) for name in names if len(name) > 1 or name in "xy"}
    if kinds:
        return f"no column names the images (columns: {listed}); name one filename"
    if len({_BOX_PREFIX.sub("", name) for name in names} & parts) > 1:
        return f"the columns of the box are ambiguous (columns: {listed}); name them xmin, ymin, xmax, ymax"
    return ""


def padded(cells: list[str], layout: Layout) -> list[str]:
    """Return a row with the empty cells at its end that AutoML omits, and without cells beyond the last column."""
    if not layout.has_header and layout.width == _AUTOML_WIDTH and 2 <= len(cells) <= _AUTOML_NAMED:
        return cells + [""] * (layout.width - len(cells))
    return cells[: layout.width] if not any(cells[layout.width :]) else cells


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.casefold())


def _boxes(names: list[str]) -> list[tuple[str, tuple[int, ...]]]:
    """Return the columns that may be the box: one kind if it is unambiguous."""
    bare = [_BOX_PREFIX.sub("", name) for name in names]
    marked = [b if b != n else "" for b, n in zip(bare, names, strict=True)]  # bbox_width beside the image's width
    both = [b if m or b not in marked else "" for b, m in zip(bare, marked, strict=True)]  # x_center and box_width
    for columns in (marked, both):
        if set(_QUAD) <= set(columns):
            return [("points", tuple(columns.index(name) for name in _QUAD))]
        for kind, known in (("corners", _CORNERS), ("size", _SIZES), ("centre", _CENTRES)):
            found = [tuple(columns.index(n) for n in four) for four in known if set(four) <= set(columns)]
            if found:
                return [(kind, box) for box in found]
    single = [i for i, name in enumerate(names) if name in _ONE_CELL]
    return [("size", (i,)) for i in single]


def _smaller(
    kinds: list[tuple[str, tuple[int, ...]]], rows: Sequence[Sequence[str]]
) -> list[tuple[str, tuple[int, ...]]]:
    """Return which of two boxes with one position is the object: the smaller one; the other has the image's size."""
    if len(kinds) != 2 or kinds[0][0] == "corners" or kinds[0][1][:2] != kinds[1][1][:2]:
        return kinds
    for box, image in (kinds, kinds[::-1]):
        pairs = [
            (number_of(row[b]), number_of(row[i]))
            for row in rows
            for b, i in zip(box[1][2:], image[1][2:], strict=True)
            if len(row) > max(b, i)
        ]
        sizes = [(own, whole) for own, whole in pairs if own is not None and whole is not None]
        if sizes and all(own <= whole for own, whole in sizes) and any(own < whole for own, whole in sizes):
            return [box]
    return kinds


def _named(names: list[str], rows: Sequence[Sequence[str]]) -> Layout | None:
    kinds = _smaller(_boxes(names), rows)
    if len(kinds) != 1:
        return None
    kind, box = kinds[0]
    free = [name if i not in box else "" for i, name in enumerate(names)]
    image = _first(free, _IMAGE)
    if image is None or not _names_files(rows, image):
        by_content = next((i for i, name in enumerate(free) if name and _names_files(rows, i)), None)
        image = by_content if by_content is not None else image
    if image is None:
        return None
    free[image] = ""
    size = next(((free.index(w), free.index(h)) for w, h in _IMAGE_SIZE if w in free and h in free), None)
    groups = _first(free, _GROUPS)
    fractions = "isgroupof" in free and "labelname" in free
    return Layout(
        image, box, kind, _first(free, _LABEL), _first(free, _SPLIT), size, groups, True, fractions, len(names)
    )


def _first(names: list[str], known: Sequence[str]) -> int | None:
    return next((names.index(name) for name in known if name in names), None)


def _names_files(rows: Sequence[Sequence[str]], column: int) -> bool:
    cells = [row[column] for row in rows if len(row) > column]
    return bool(cells) and sum(_is_image(cell) for cell in cells) * 2 >= len(cells)


def _is_image(cell: str) -> bool:
    return suffix_of(path_of_url(cell) if "://" in cell else cell.replace("\\", "/")) in IMAGE_SUFFIXES


def _retinanet(rows: Sequence[Sequence[str]]) -> Layout | None:
    """Return the layout of ``path,x1,y1,x2,y2,class`` without a header."""
    if not all(len(row) == 6 and _is_image(row[0]) and _are_box(row[1:5]) for row in rows):
        return None
    corners = [[number_of(cell) or 0 for cell in row[1:5]] for row in rows if row[1]]
    ordered = sum(x1 < x2 and y1 < y2 for x1, y1, x2, y2 in corners)
    if not corners or ordered < _MOSTLY * len(corners):  # otherwise the numbers are attributes
        return None
    return Layout(0, (1, 2, 3, 4), "corners", 5, has_header=False, width=6)


def _makesense(rows: Sequence[Sequence[str]]) -> Layout | None:
    """Return the layout of ``label,x,y,width,height,path`` and the size of the image, without a header."""
    if not all(len(row) == _SIZED_WIDTH and _is_image(row[5]) and _are_box(row[1:5]) for row in rows):
        return None
    for row in rows:
        x, y, w, h, width, height = (number_of(row[i]) or 0 for i in (1, 2, 3, 4, 6, 7))
        if min(width, height) < 1 or x + w > width + 1 or y + h > height + 1:
            return None
    return Layout(5, (1, 2, 3, 4), "size", 0, size=(6, 7), has_header=False, width=_SIZED_WIDTH)


def _sku(rows: Sequence[Sequence[str]]) -> Layout | None:
    """Return SKU-110K's layout of ``path,x1,y1,x2,y2,class`` and the size of the image, without a header."""
    if not all(len(row) == _SIZED_WIDTH and _is_image(row[0]) and _are_box(row[1:5]) for row in rows):
        return None
    for row in rows:
        x1, y1, x2, y2, width, height = (number_of(row[i]) or 0 for i in (1, 2, 3, 4, 6, 7))
        if min(width, height) < 1 or (row[1] and not (x1 <= x2 <= width + 1 and y1 <= y2 <= height + 1)):
            return None
    return Layout(0, (1, 2, 3, 4), "corners", 5, size=(6, 7), has_header=False, width=_SIZED_WIDTH)


def _lacks_header(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether rows are an image, a class and four adjacent numbers that are probably a box."""
    width = len(rows[0])
    image = next((i for i, cell in enumerate(rows[0]) if _is_image(cell)), None)
    if image is None or not 5 <= width <= 10 or any(len(row) != width or not _is_image(row[image]) for row in rows):
        return False
    numeric = [i for i in range(width) if all(number_of(row[i]) is not None for row in rows)]
    start = next((i for i in numeric if {i + 1, i + 2, i + 3} <= set(numeric)), None)
    words = [i for i in range(width) if i != image and not any(number_of(row[i]) is not None for row in rows)]
    if start is None or not words or len(numeric) > _MOST_NUMBERS:
        return False
    corners = [[number_of(row[start + i]) or 0 for i in range(4)] for row in rows]
    ordered = sum(x1 < x2 and y1 < y2 for x1, y1, x2, y2 in corners)
    alone = len(numeric) == 4 and width == 6 and max(map(max, corners)) > _MOST_OF_A_MARK
    return ordered >= _MOSTLY * len(rows) or alone


def _automl(rows: Sequence[Sequence[str]]) -> Layout | None:
    """Return AutoML's layout, ``set,path,label`` and x1,y1,x2,y1,x2,y2,x1,y2, two possibly empty, without a header."""
    full = [row for row in rows if len(row) == _AUTOML_WIDTH]
    named = all(
        (len(row) == _AUTOML_WIDTH or 2 <= len(row) <= _AUTOML_NAMED)
        and row[0].upper() in _AUTOML_SETS
        and _is_image(row[1])
        for row in rows
    )
    if not named or not full or not all(_are_box([row[i] for i in (3, 4, 7, 8)]) for row in full):
        return None
    return Layout(1, (3, 4, 7, 8), "corners", 2, 0, has_header=False, fractions=True, width=_AUTOML_WIDTH)


def _are_box(cells: Sequence[str]) -> bool:
    return all(map(is_missing, cells)) or all(number_of(cell) is not None for cell in cells)
