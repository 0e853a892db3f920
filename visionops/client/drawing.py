"""Draw answers over their image."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from visionops.client.answers import Answer
from visionops.client.errors import ClientError
from visionops.client.images import ImageLike, encoded, name_of

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["draw_answer"]

_COLOURS = (
    "#1f77b4",
    "#d62728",
    "#2ca02c",
    "#ff7f0e",
    "#9467bd",
    "#8c564b",
    "#e377c2",
    "#17becf",
    "#bcbd22",
    "#7f7f7f",
)
_TEXT_SHARE = 1 / 40
_SMALLEST_TEXT = 12


def draw_answer(image: ImageLike, answer: Answer) -> Image.Image:
    """Return the image, upright and in RGB, with boxes or classes drawn over it.

    Raises:
        ClientError: The image cannot be read.
    """
    from PIL import Image, ImageDraw, ImageFont, ImageOps

    try:
        drawn = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded(image)))).convert("RGB")
    except (ImportError, OSError, Image.DecompressionBombError) as error:
        # Ultralytics, in the same process, can make Pillow fail by importing a decoder.
        raise ClientError(f"{name_of(image)}: cannot be drawn: Pillow cannot read it as an image") from error
    draw = ImageDraw.Draw(drawn)
    size = max(_SMALLEST_TEXT, round(max(drawn.size) * _TEXT_SHARE))
    font = ImageFont.load_default(size)

    def write(x: float, y: float, text: str, colour: str) -> None:
        box = draw.textbbox((x, y), text, font=font)
        draw.rectangle((box[0] - 2, box[1] - 2, box[2] + 2, box[3] + 2), fill=colour)
        draw.text((x, y), text, fill="white", font=font)

    for found in answer.detections:
        colour = _COLOURS[found.class_id % len(_COLOURS)]
        x1, y1, x2, y2 = found.box
        draw.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=colour, width=max(2, size // 8))
        write(x1, max(0.0, y1 - size - 6), f"{found.class_name} {found.confidence:.2f}", colour)
    labels = {"": answer.classification} if answer.classification else dict(answer.attributes)
    for row, (name, label) in enumerate(labels.items()):
        text = f"{name}: {label.class_name}" if name else label.class_name
        write(6, 6 + row * (size + 8), f"{text} {label.confidence:.2f}", _COLOURS[0])
    return drawn
