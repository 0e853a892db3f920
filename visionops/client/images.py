"""Encode images for a request, from every form that the client accepts."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from visionops.client.errors import ClientError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

__all__ = ["ImageLike", "encoded", "name_of"]

ImageLike: TypeAlias = "str | Path | bytes | npt.NDArray[np.uint8] | Image.Image"
"""A path, the bytes of a file, a uint8 array, RGB (height, width, 3) or grey (height, width), or a Pillow image."""


def encoded(image: ImageLike) -> bytes:
    """Return an image as encoded bytes; an array or a Pillow image becomes a lossless PNG.

    Raises:
        ClientError: The file cannot be read, or the array is not an image.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        try:
            return Path(image).read_bytes()
        except OSError as error:
            raise ClientError(f"{image}: cannot be read ({error.strerror})") from error
    return _as_png(image)


def name_of(image: ImageLike) -> str:
    """Return the file name of an image; ``image`` where it has none."""
    return Path(image).name if isinstance(image, str | Path) else "image"


def _as_png(image: Any) -> bytes:
    from PIL import Image

    if not isinstance(image, Image.Image):
        shape, kind = getattr(image, "shape", None), str(getattr(image, "dtype", type(image).__name__))
        if kind != "uint8" or shape is None or len(shape) not in {2, 3} or (len(shape) == 3 and shape[2] != 3):
            raise ClientError(f"image: expected uint8 of shape (height, width, 3), got {kind} of {shape}")
        image = Image.fromarray(image)
    stream = io.BytesIO()
    # Level 1: three times faster than the default, and a tenth larger.
    image.save(stream, "PNG", compress_level=1)
    return stream.getvalue()
