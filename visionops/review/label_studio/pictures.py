"""Convert images to a form that every browser shows."""

from __future__ import annotations

import io

from PIL import Image

from visionops.inference.image import decode_image, read_header
from visionops.inference.image_types import preferred_suffix

__all__ = ["for_browsers"]

_SHOWN = {"JPEG", "PNG", "GIF", "WEBP"}


def for_browsers(data: bytes) -> tuple[bytes, str]:
    """Return an image that every browser shows upright, and its suffix.

    The bytes stay unchanged where possible. An image with an EXIF orientation, or in a format that browsers do not
    show, becomes an upright PNG: programs differ in whether percent refer to the stored or to the rotated image.

    Raises:
        ImageError: The bytes are not a usable image.
    """
    header = read_header(data)
    if header.format in _SHOWN and header.orientation == 1:
        return data, preferred_suffix(header.format)
    stream = io.BytesIO()
    Image.fromarray(decode_image(data)).save(stream, "PNG")
    return stream.getvalue(), ".png"
