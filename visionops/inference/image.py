"""Encoded bytes to an RGB array: the one way in, for training, evaluation, serving and batch.

Pillow, not OpenCV: it reads the header before it decodes (a 50,000 x 50,000 PNG of 1 kB costs nothing to refuse)
and it raises on a truncated file, which OpenCV fills with grey and returns.
"""

from __future__ import annotations

import dataclasses
import enum
import io
import warnings

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from visionops.errors import ImageError

__all__ = ["DEFAULT_MAX_PIXELS", "ImageHeader", "ImageProblem", "decode_image", "read_header"]

DEFAULT_MAX_PIXELS = 100_000_000
"""Largest accepted width x height: 100 megapixels, 300 MB decoded."""

_EXIF_ORIENTATION = 0x0112
_SUPPORTED = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "MPO")


class ImageProblem(enum.StrEnum):
    """Why an image cannot be used."""

    EMPTY = "empty_file"
    NOT_AN_IMAGE = "not_an_image"
    TRUNCATED = "truncated"
    TOO_LARGE = "too_many_pixels"
    UNSUPPORTED = "unsupported_format"


@dataclasses.dataclass(frozen=True, slots=True)
class ImageHeader:
    """What an encoded image says of itself before it is decoded."""

    format: str
    """Pillow's name: ``JPEG``, ``PNG``, …"""
    mode: str
    """Pillow's mode: ``RGB``, ``L``, ``CMYK``, ``P``, ``I;16``, …"""
    width: int
    """Pixels after EXIF rotation."""
    height: int
    orientation: int
    """EXIF orientation, 1 to 8; 1 is upright."""
    frames: int

    @property
    def is_plain(self) -> bool:
        """Whether any decoder gives the same pixels: upright 8-bit grey or RGB, one frame, JPEG, PNG or BMP."""
        return (
            self.format in ("JPEG", "PNG", "BMP")
            and self.mode in ("L", "RGB")
            and self.orientation == 1
            and self.frames == 1
        )


def _open(data: bytes, where: str, max_pixels: int) -> Image.Image:
    if not data:
        raise ImageError(f"{where}: the file has no bytes; replace or remove it", ImageProblem.EMPTY)
    try:
        with warnings.catch_warnings():
            # Our own limit follows; Pillow's warning at 89 megapixels says nothing a user can act on.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=_SUPPORTED)
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{where}: declares more than {max_pixels} pixels; refused before decoding", ImageProblem.TOO_LARGE
        ) from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ImageError(
            f"{where}: not a readable image (expected one of {', '.join(_SUPPORTED)})", ImageProblem.NOT_AN_IMAGE
        ) from error
    if image.width * image.height > max_pixels:
        raise ImageError(
            f"{where}: {image.width} x {image.height} pixels, over the limit of {max_pixels}; refused before decoding",
            ImageProblem.TOO_LARGE,
        )
    return image


def read_header(data: bytes, *, where: str = "image", max_pixels: int = DEFAULT_MAX_PIXELS) -> ImageHeader:
    """Read format, mode and size without decoding a pixel.

    Raises:
        ImageError: Empty, unknown or too large.
    """
    return _header(_open(data, where, max_pixels))


def _header(image: Image.Image) -> ImageHeader:
    try:
        orientation = int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except (ValueError, TypeError, SyntaxError, OSError):  # a broken EXIF block does not make the pixels unusable
        orientation = 1
    if not 1 <= orientation <= 8:
        orientation = 1
    width, height = image.size if orientation < 5 else image.size[::-1]
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    return ImageHeader(image.format or "", image.mode, width, height, orientation, frames)


def decode_image(data: bytes, *, where: str = "image", max_pixels: int = DEFAULT_MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """Decode to RGB, upright.

    CMYK, palette, grey and alpha are converted; 16-bit grey is scaled to 8 bits by its full range (65535 -> 255);
    of an animation the first frame is taken.

    Args:
        data: The encoded file.
        where: Named in the error: a file name or "upload".
        max_pixels: Refused above this, before decoding.

    Returns:
        uint8 (H, W, 3), RGB, after EXIF rotation.

    Raises:
        ImageError: With `ImageProblem` as its ``kind``.
    """
    image = _open(data, where, max_pixels)
    try:
        image.load()
        if _header(image).orientation != 1:
            image = ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageError(
            f"{where}: truncated or damaged ({error}); fetch the file again", ImageProblem.TRUNCATED
        ) from error
    if image.mode.startswith("I"):  # "I;16" and its byte orders; Pillow's own conversion clips instead of scaling
        grey = (np.asarray(image).astype(np.float64) / 257.0).round().clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB, Pillow warns that transparency is lost
    return np.asarray(image.convert("RGB"))
