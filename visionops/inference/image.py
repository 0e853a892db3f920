"""Encoded bytes to an RGB array: the one way in, for training, evaluation, serving and batch.

Pillow, not OpenCV: it reads the header before it decodes (a 50,000 x 50,000 PNG of 1 kB costs nothing to refuse)
and it raises on a truncated file, which OpenCV fills with grey and returns.
"""

from __future__ import annotations

import dataclasses
import enum
import io
import struct
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from visionops.errors import ImageError

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "ImageHeader",
    "ImageProblem",
    "decode_image",
    "load_upright",
    "read_header",
    "to_rgb",
]

DEFAULT_MAX_PIXELS = 100_000_000
"""Largest accepted width x height: 100 megapixels, 300 MB decoded."""

_EXIF_ORIENTATION = 0x0112
_SUPPORTED = (
    "JPEG",
    "PNG",
    "BMP",
    "TIFF",
    "WEBP",
    "GIF",
)  # MPO comes in through JPEG; Pillow has no opener of that name
_MAGIC = {  # what cameras, phones and scanners also write; only to name it in the message
    b"8BPS": "Photoshop",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"%PDF": "PDF",
    b"<svg": "SVG",
}
_UNSUPPORTED_MODES = ("F", "I", "La")  # 32-bit samples have no agreed range to scale from; La Pillow cannot convert

_DAMAGE = (  # what Pillow's decoders raise on damaged bytes, found by mutating files of every format
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    struct.error,
    zlib.error,
)

# Pillow's own limit is one global with a warning that threads cannot silence safely; `max_pixels` replaces it.
Image.MAX_IMAGE_PIXELS = None
# Broken EXIF leaves the pixels intact; Pillow says so once per tag, on stderr.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


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
    bits: int = 8
    """Per channel, in the file; 8-bit grey and 1-bit masks both count as 8."""

    @property
    def is_plain(self) -> bool:
        """Whether any decoder gives the same pixels: upright 8-bit grey or RGB, one frame, JPEG, PNG or BMP."""
        return (
            self.format in ("JPEG", "PNG", "BMP")
            and self.mode in ("L", "RGB")
            and self.orientation == 1
            and self.frames == 1
            and self.bits == 8
        )


def _open(data: bytes, where: str, max_pixels: int) -> Image.Image:
    if not data:
        raise ImageError(f"{where}: the file has no bytes; replace or remove it", ImageProblem.EMPTY)
    try:
        image = Image.open(io.BytesIO(data), formats=_SUPPORTED)
    except (
        *_DAMAGE,
        ImportError,
    ) as error:  # ImportError: Ultralytics replaces Image.open by one that asks for pi_heif
        raise _not_opened(data, where) from error
    if image.width * image.height > max_pixels:
        raise ImageError(
            f"{where}: {image.width} x {image.height} pixels, over the limit of {max_pixels}; refused before decoding",
            ImageProblem.TOO_LARGE,
        )
    if image.mode in _UNSUPPORTED_MODES:
        raise ImageError(
            f"{where}: pixels of type {image.mode} are not supported; convert it to RGB or grey of 8 or 16 bits",
            ImageProblem.UNSUPPORTED,
        )
    return image


def _not_opened(data: bytes, where: str) -> ImageError:
    kind = next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)
    if data[4:8] == b"ftyp":
        kind = "AVIF" if data[8:12] in {b"avif", b"avis"} else "HEIC"
    if kind:
        return ImageError(f"{where}: {kind} is not supported; convert it to JPEG or PNG", ImageProblem.UNSUPPORTED)
    return ImageError(
        f"{where}: not a readable image (expected one of {', '.join(_SUPPORTED)}); replace or remove it",
        ImageProblem.NOT_AN_IMAGE,
    )


def read_header(data: bytes, *, where: str = "image", max_pixels: int = DEFAULT_MAX_PIXELS) -> ImageHeader:
    """Read format, mode and size without decoding a pixel.

    Raises:
        ImageError: Empty, unknown or too large.
    """
    image = _open(data, where, max_pixels)
    # Pillow decodes a whole PNG to look for EXIF behind the pixels: only worth it when there is some.
    late_exif = image.format != "PNG" or "exif" in image.info or b"eXIf" in data or b"Raw profile type" in data
    return _header(image, image.getexif if late_exif else lambda: Image.Image.getexif(image))


def _header(image: Image.Image, get_exif: Callable[[], Image.Exif]) -> ImageHeader:
    try:
        orientation = int(get_exif().get(_EXIF_ORIENTATION, 1))
    except _DAMAGE:  # a broken EXIF block does not make the pixels unusable
        orientation = 1
    if not 1 <= orientation <= 8:
        orientation = 1
    width, height = image.size if orientation < 5 else image.size[::-1]
    try:
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    except _DAMAGE:  # a later frame is broken; the first is the one we use
        frames = 1
    return ImageHeader(image.format or "", image.mode, width, height, orientation, frames, _bits(image))


def _bits(image: Image.Image) -> int:
    # Pillow cuts 16-bit colour to 8 while it decodes; only the decoder's arguments still tell.
    return 16 if "16" in image.mode or any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())) else 8


def load_upright(
    data: bytes,
    *,
    where: str = "image",
    max_pixels: int = DEFAULT_MAX_PIXELS,
    at_least: int = 0,
    luminance: bool = False,
) -> tuple[ImageHeader, Image.Image]:
    """Decode the first frame and turn it upright, in the mode of the file.

    `to_rgb` brings the result into the one form that models see. Apart from it for those who need less than all
    pixels in RGB, such as validation and thumbnails.

    Args:
        at_least: 0: every pixel. Else a JPEG may come at 1/2, 1/4 or 1/8 of its size while both sides keep so many
            pixels: for thumbnails, several times faster. The header tells the true size.
        luminance: A colour JPEG may come as grey (mode L). All its data is still decoded, and fails as in colour; only
            the chroma is not spread over pixels. The header tells the true mode.

    Raises:
        ImageError: With `ImageProblem` as its ``kind``.
    """
    image = _open(data, where, max_pixels)
    bits, size, mode = _bits(image), image.size, image.mode
    try:
        if at_least or luminance:
            image.draft("L" if luminance else None, (at_least, at_least) if at_least else size)
        image.load()
        header = dataclasses.replace(_header(image, image.getexif), bits=bits, mode=mode)
        if image.size != size:
            width, height = size if header.orientation < 5 else size[::-1]
            header = dataclasses.replace(header, width=width, height=height)
        if header.orientation != 1:
            image = _turn(image, header.orientation)
        else:
            image.load()  # counting the frames of an animation rewinds it
    except (*_DAMAGE, MemoryError) as error:
        raise ImageError(
            f"{where}: truncated or damaged ({_one_line(error)}); fetch the file again", ImageProblem.TRUNCATED
        ) from error
    return header, image


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _turn(image: Image.Image, orientation: int) -> Image.Image:
    # Not ImageOps.exif_transpose: it also rewrites the EXIF block, and fails where that is damaged.
    turned = image.transpose(_TURNS[orientation])
    turned.info = image.info
    return turned


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


def to_rgb(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Any supported mode to RGB, as `decode_image` says.

    Args:
        image: Decoded; a resized copy will do.

    Returns:
        uint8 (H, W, 3), RGB.
    """
    if image.mode.startswith("I"):  # "I;16" and its byte orders; Pillow's own conversion clips instead of scaling
        grey = (np.asarray(image).astype(np.float64) / 257.0).round().clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB, Pillow warns that transparency is lost
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


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
    if (pixels := _plain_jpeg(data, _open(data, where, max_pixels))) is not None:
        return pixels
    return to_rgb(load_upright(data, where=where, max_pixels=max_pixels)[1])


def _plain_jpeg(data: bytes, image: Image.Image) -> npt.NDArray[np.uint8] | None:
    """An upright JPEG in half the time, pixel for pixel as Pillow has it: both stand on libjpeg-turbo.

    None for every other file, and for a damaged one: it is Pillow that decides, and says what is wrong.
    """
    if image.format != "JPEG" or image.mode not in {"L", "RGB"} or _header(image, image.getexif).orientation != 1:
        return None
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        if (width, height) != image.size:
            return None
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(data, fastdct=False, fastupsample=False)
    except ValueError:
        return None
    return pixels
