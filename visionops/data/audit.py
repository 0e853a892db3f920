"""Draw labels on images, for a person to check them before training.

>>> write_label_audit(dataset, Path("audit.png"))
"""

from __future__ import annotations

import base64
import functools
import html
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from visionops.data.dataset import Dataset
from visionops.data.layers import Boxes
from visionops.errors import DataError, ImageError
from visionops.inference.image import decode_image, load_upright, to_rgb
from visionops.inference.preprocessing_spec import FULL_WHITE

__all__ = [
    "class_colour",
    "describe_labels",
    "draw_boxes",
    "labelled_tile",
    "pick_examples",
    "read_thumbnail",
    "render_label_audit",
    "render_label_audit_html",
    "write_label_audit",
]

Colour = tuple[int, int, int]

# Okabe and Ito's palette, distinguishable with every common colour blindness; ordered for contrast on grey surfaces.
_PALETTE: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
    (0, 114, 178),
    (255, 255, 255),
)
_INK: Colour = (33, 37, 41)
_FAINT: Colour = (108, 117, 125)
_PAPER: Colour = (255, 255, 255)
_GAP = 10
_CAPTION = 20  # pixels below a tile
_LINE = 18  # pixels of a line of labels
_FARTHEST = 1e9  # pixels; with boxes beyond that, areas overflow


def class_colour(class_id: int) -> Colour:
    """Return a colour-blind-safe colour, RGB; colours repeat after eight classes, so labels also name the class."""
    return _PALETTE[class_id % len(_PALETTE)]


def describe_labels(dataset: Dataset) -> list[str]:
    """Return the labels of each image in row order: ``dandelion``, or ``beard=none, glasses=yes``; "" if unlabelled."""
    names = np.array(dataset.all_class_names, dtype=object)
    return (
        [", ".join(names[shown]) for shown in dataset.presence()] if dataset.attributes else [""] * dataset.num_images
    )


def draw_boxes(
    rgb: npt.NDArray[np.uint8],
    xyxy: npt.NDArray[np.floating],
    labels: Sequence[str],
    colours: Sequence[Colour],
) -> Image.Image:
    """Draw boxes with their labels onto a copy of one image.

    Args:
        rgb: uint8 (H, W, 3).
        xyxy: (N, 4), pixels of ``rgb``; parts outside the image are not drawn.
        labels: N texts; "" for none. In a crowd, labels of small boxes without a free place are left out.
        colours: N colours, RGB.
    """
    image = Image.fromarray(np.ascontiguousarray(rgb))
    draw = ImageDraw.Draw(image)
    line = max(2, round(max(image.size) / 250))
    font = _font(max(12, round(max(image.size) / 24)))
    order = np.argsort(-_areas(xyxy), kind="stable")  # small boxes last, so that they are on top
    drawn = [i for i in order.tolist() if np.isfinite(xyxy[i]).all()]
    for i in drawn:
        _outline(draw, xyxy[i], image.size, colours[i], line)
    taken: list[tuple[float, float, float, float]] = []
    for i in drawn:
        if labels[i] and (
            place := _free_place(draw.textbbox((0, 0), labels[i], font=font), xyxy[i], image.size, taken)
        ):
            _write(draw, place, labels[i], colours[i], font)
            taken.append(place)
    return image


def _areas(xyxy: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    boxes = np.asarray(xyxy).reshape(-1, 4)
    return np.asarray(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))


@functools.lru_cache(maxsize=32)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _outline(
    draw: ImageDraw.ImageDraw, box: npt.NDArray[np.floating], size: tuple[int, int], colour: Colour, line: int
) -> None:
    x1, y1 = (float(np.clip(v, 0, limit - 1)) for v, limit in zip(box[:2], size, strict=True))
    x2, y2 = (float(np.clip(v, 0, limit - 1)) for v, limit in zip(box[2:], size, strict=True))
    left, right, upper, lower = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
    # A dark outline keeps a light colour visible on light metal.
    draw.rectangle((left - 1, upper - 1, right + 1, lower + 1), outline=_INK, width=line + 2)
    draw.rectangle((left, upper, right, lower), outline=colour, width=line)


_Rectangle = tuple[float, float, float, float]


def _free_place(
    text: _Rectangle, box: npt.NDArray[np.floating], size: tuple[int, int], taken: Sequence[_Rectangle]
) -> _Rectangle | None:
    """Return the place for a label: above its box, else inside, else below; None if other labels occupy all of them."""
    width, height = text[2] - text[0] + 6, text[3] - text[1] + 6
    x = float(np.clip(min(box[0], box[2]), 0, max(size[0] - width, 0)))
    top, bottom = float(min(box[1], box[3])), float(max(box[1], box[3]))
    places = [(x, y, x + width, y + height) for y in (top - height, top, bottom - height, bottom)]
    inside = [p for p in places if p[1] >= 0 and p[3] <= size[1]] or [(x, 0.0, x + width, float(height))]
    return next((p for p in inside if not any(_overlap(p, other) for other in taken)), None)


def _write(
    draw: ImageDraw.ImageDraw,
    place: _Rectangle,
    label: str,
    colour: Colour,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    left, upper, _, _ = draw.textbbox((0, 0), label, font=font)
    draw.rectangle(place, fill=colour)
    dark = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] < 110
    draw.text((place[0] + 3 - left, place[1] + 3 - upper), label, font=font, fill=_PAPER if dark else _INK)


def _overlap(a: _Rectangle, b: _Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def read_thumbnail(path: Path, side: int, white: int = FULL_WHITE) -> tuple[npt.NDArray[np.uint8], float] | None:
    """Read an image and scale it to fit a square.

    Args:
        side: Side of the square, in pixels; smaller images are enlarged, so that their labels can be read.
        white: White level of 16-bit files.

    Returns:
        The image, uint8 (h, w, 3) RGB, and its scale factor for boxes; None if the image cannot be used.
    """
    try:
        data = path.read_bytes()
        header, image = load_upright(data, at_least=side)
        deep = header.bits > 8 and white != FULL_WHITE
        rgb = decode_image(data, white=white) if deep else to_rgb(image)
    except (OSError, ImageError):
        return None
    scale = side / max(header.width, header.height)
    size = (max(1, round(header.width * scale)), max(1, round(header.height * scale)))
    small = Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    return np.asarray(small), scale


def labelled_tile(dataset: Dataset, row: int, boxes: Boxes, side: int) -> Image.Image:
    """Draw one image with its boxes on a square tile; draw a grey tile with a note if the image cannot be used.

    Args:
        boxes: Boxes of this image, as `Dataset.boxes_by_image` returns them.
        side: Side of the tile, in pixels.
    """
    thumbnail = read_thumbnail(Path(dataset.images.column("path")[row].as_py()), side, dataset.white)
    tile = Image.new("RGB", (side, side), (241, 243, 245))
    if thumbnail is None:
        text = "cannot be decoded"
        width = ImageDraw.Draw(tile).textlength(text, font=_font(13))
        ImageDraw.Draw(tile).text(((side - width) / 2, side / 2 - 8), text, fill=_FAINT, font=_font(13))
        return tile
    rgb, scale = thumbnail
    names = [dataset.class_names[c] for c in boxes.class_ids]
    xyxy = np.clip(boxes.xyxy, -_FARTHEST, _FARTHEST) * scale
    image = draw_boxes(rgb, xyxy, names, [class_colour(int(c)) for c in boxes.class_ids])
    tile.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return tile


def pick_examples(dataset: Dataset, count: int, seed: int = 0) -> list[int]:
    """Return rows of images that show each class, rare ones first, and one without boxes or labels if there is one.

    Args:
        count: Maximum number of rows.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(dataset.num_images)
    rank = np.empty(dataset.num_images, dtype=np.int64)
    rank[order] = np.arange(dataset.num_images)
    shown = dataset.presence()
    queues = []
    for class_id in np.argsort(shown.sum(axis=0), kind="stable"):
        holders = np.flatnonzero(shown[:, class_id])
        queues.append(holders[np.argsort(rank[holders])].tolist())
    empty = np.flatnonzero(~shown.any(axis=1))
    # Unlabelled images have no boxes: they are not examples of clean images.
    splits = np.array(dataset.column("split"), dtype=object)
    clean = [int(row) for row in empty[np.argsort(rank[empty])] if splits[row] != "unlabelled"]
    queues.append(clean[: max(1, count // 12)] if shown.any() else clean)
    picked: dict[int, None] = {}
    while len(picked) < count and any(queues):
        for queue in queues:
            while queue and queue[0] in picked:
                queue.pop(0)
            if queue and len(picked) < count:
                picked[queue.pop(0)] = None
    return list(picked)


def render_label_audit(
    dataset: Dataset,
    rows: Sequence[int] | int = 24,
    seed: int = 0,
    tile: int = 240,
    fetch: Callable[[Dataset], Dataset] = lambda images: images,
) -> Image.Image:
    """Draw a grid of images with their boxes, or sorted by class with their labels below, and a legend.

    Args:
        rows: Rows of the images to show, or their number, picked by `pick_examples`.
        tile: Side of one image in the grid, in pixels.
        fetch: Returns the given images with paths on this machine.

    Raises:
        DataError: There are no images to show.
    """
    shown = pick_examples(dataset, rows, seed) if isinstance(rows, int) else list(rows)
    if not shown:
        raise DataError(f"{dataset.name}: no labelled image to show; add images with labels")
    if len(dataset.attributes) == 1 and isinstance(rows, int):
        class_ids = dataset.label_array()[:, 0]
        shown.sort(key=class_ids.__getitem__)
    columns = min(6, max(2, round(len(shown) ** 0.5 * 1.2)), len(shown))
    lines = -(-len(shown) // columns)
    width = columns * (tile + _GAP) + _GAP
    legend = _legend(dataset, width - 2 * _GAP)
    measure, texts = ImageDraw.Draw(legend), describe_labels(dataset)
    labels = {row: _wrapped(measure, texts[row], tile) for row in shown}
    caption_top = tile + 3 + _LINE * max(map(len, labels.values()))
    pitch = caption_top + _CAPTION - 3 + _GAP
    sheet = Image.new("RGB", (width, lines * pitch + 2 * _GAP + legend.height), _PAPER)
    sheet.paste(legend, (_GAP, _GAP))
    draw = ImageDraw.Draw(sheet)
    keys, splits, boxes = dataset.column("key"), dataset.column("split"), dataset.boxes_by_image()
    at_hand = fetch(dataset.take(shown))
    for index, row in enumerate(shown):
        x = _GAP + index % columns * (tile + _GAP)
        y = legend.height + 2 * _GAP + index // columns * pitch
        sheet.paste(labelled_tile(at_hand, index, boxes[row], tile), (x, y))
        for number, text in enumerate(labels[row]):
            draw.text((x, y + tile + 3 + _LINE * number), text, fill=_INK, font=_font(14))
        caption = _shortened(draw, " · ".join(filter(None, (splits[row], keys[row]))), tile)
        draw.text((x, y + caption_top), caption, fill=_FAINT, font=_font(12))
    return sheet


def _wrapped(draw: ImageDraw.ImageDraw, text: str, width: int) -> list[str]:
    """Break a text after commas into lines of at most ``width`` pixels; return an empty list for an empty text."""
    lines: list[str] = []
    for part in text.split(", ") if text else ():
        joined = f"{lines[-1]}, {part}" if lines else ""
        if lines and draw.textlength(joined, font=_font(14)) <= width:
            lines[-1] = joined
        else:
            lines.append(part)
    return lines


def _shortened(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """Shorten a text in the middle, because the end of a name identifies an image better than its start."""
    if draw.textlength(text, font=_font(12)) <= width:
        return text
    keep = len(text)
    while (
        keep > 4
        and draw.textlength(short := f"{text[: keep // 3]}…{text[-(keep - keep // 3) :]}", font=_font(12)) > width
    ):
        keep -= 1
    return short


def _legend(dataset: Dataset, width: int) -> Image.Image:
    """Draw the title and one chip per class, coloured if there are boxes, wrapped to the width."""
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    if dataset.attributes:
        title = f"{dataset.name}: {dataset.num_images:,} images"
        counts = dataset.presence().sum(axis=0)
    else:
        title = f"{dataset.name}: {dataset.num_images:,} images, {dataset.num_boxes:,} boxes"
        counts = np.bincount(dataset.box_arrays()[1], minlength=len(dataset.class_names))
    sizes = [len(attribute.class_names) for attribute in dataset.attributes]
    begins = {0, *np.cumsum(sizes).tolist()}
    indent = 0 if dataset.attributes else 22
    chips: list[tuple[int, int, str, int]] = []
    x, y = 0, 10
    for class_id, name in enumerate(dataset.all_class_names):
        text = f"{name} ({counts[class_id]:,})"
        needed = indent + 2 + round(measure.textlength(text, font=_font(14)))
        if class_id in begins or (x and x + needed > width):
            x, y = 0, y + 24
        chips.append((x, y, text, class_id))
        x += needed + 16
    legend = Image.new("RGB", (width, max(y, 34) + 24), _PAPER)
    draw = ImageDraw.Draw(legend)
    draw.text((0, 2), title, fill=_INK, font=_font(20))
    for left, top, text, class_id in chips:
        if indent:
            draw.rectangle((left, top + 2, left + 15, top + 17), fill=class_colour(class_id), outline=_INK)
        draw.text((left + indent, top), text, fill=_INK, font=_font(14))
    return legend


def write_label_audit(dataset: Dataset, path: Path, rows: Sequence[int] | int = 24, seed: int = 0) -> None:
    """Write `render_label_audit` to a file; its suffix sets the format.

    Raises:
        DataError: There are no images to show, or the file cannot be written.
    """
    sheet = render_label_audit(dataset, rows, seed)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: the label audit cannot be written ({error}); choose another file") from error


def render_label_audit_html(
    dataset: Dataset,
    rows: Sequence[int] | int = 24,
    seed: int = 0,
    fetch: Callable[[Dataset], Dataset] = lambda images: images,
) -> str:
    """Return `render_label_audit` as a self-contained HTML page for the dashboard."""
    buffer = io.BytesIO()
    render_label_audit(dataset, rows, seed, fetch=fetch).save(buffer, "JPEG", quality=88)
    picture = base64.b64encode(buffer.getvalue()).decode("ascii")
    title = html.escape(f"Label audit of {dataset.name}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<body style="margin:0;background:#fff"><img alt="{title}" style="max-width:100%" '
        f'src="data:image/jpeg;base64,{picture}"></body></html>'
    )
