"""Make images, valid and broken, as encoded bytes."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from visionops.data.dataset import Dataset
from visionops.errors import ImageError
from visionops.inference.image import decode_image, read_header

__all__ = ["BROKEN", "PECULIAR", "dataset_of", "decodes_or_refuses", "encode", "picture", "write_files"]

WIDTH, HEIGHT = 64, 48
_ORIENTATION = 0x0112


def picture(seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Return a smooth random picture, RGB; no two seeds look alike."""
    cells = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, format: str, **options: Any) -> bytes:  # noqa: A002 - Pillow's word
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def jpeg(seed: int = 0) -> bytes:
    return encode(picture(seed), "JPEG", quality=92)


def truncated_jpeg() -> bytes:
    data = encode(picture(1, 320, 240), "JPEG", quality=92)
    return data[: len(data) * 2 // 3]


def huge_png(width: int = 50_000, height: int = 50_000) -> bytes:
    """Return a few bytes whose header claims gigabytes of pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[_ORIENTATION] = orientation
    return block


def rotated_jpeg(orientation: int = 6) -> bytes:
    return encode(picture(2), "JPEG", quality=92, exif=exif(orientation))


def sixteen_bit_png() -> bytes:
    ramp = np.linspace(0, 65535, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH).astype(np.uint16)
    return encode(Image.fromarray(ramp), "PNG")


def sixteen_bit_colour_png() -> bytes:
    import cv2

    pixels = np.random.default_rng(3).integers(0, 65536, (HEIGHT, WIDTH, 3)).astype(np.uint16)
    return bytes(cv2.imencode(".png", pixels)[1])


def palette_png(*, transparent: bool = False) -> bytes:
    options = {"transparency": 0} if transparent else {}
    return encode(picture(17 if transparent else 4).quantize(32), "PNG", **options)


def animated_gif() -> bytes:
    frames = [picture(seed).quantize(64) for seed in (5, 6, 7)]
    return encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=40)


def grey_alpha_png() -> bytes:
    return encode(picture(8).convert("LA"), "PNG")


def float_tiff() -> bytes:
    return encode(Image.fromarray(np.random.default_rng(9).random((HEIGHT, WIDTH), dtype=np.float32)), "TIFF")


BROKEN: dict[str, tuple[str, Callable[[], bytes]]] = {
    "truncated.jpg": ("truncated", truncated_jpeg),
    "text.jpg": ("not_an_image", lambda: b"this is not an image\n" * 20),
    "html.png": ("not_an_image", lambda: b"<!doctype html><title>404</title>"),
    "empty.jpg": ("empty_file", lambda: b""),
    "bomb.png": ("too_many_pixels", huge_png),
    "phone.heic": ("unsupported_format", lambda: b"\0\0\0\x18ftypheic" + b"\0" * 40),
    "layers.psd": ("unsupported_format", lambda: b"8BPS\0\1" + b"\0" * 40),
    "float.tif": ("unsupported_format", float_tiff),
    "cut.png": ("truncated", lambda: encode(picture(10, 200, 200), "PNG")[:3000]),
}
"""Expected code of the finding, and bytes, by file name."""

PECULIAR: dict[str, tuple[str, Callable[[], bytes]]] = {
    "cmyk.jpg": ("cmyk", lambda: encode(picture(11).convert("CMYK"), "JPEG", quality=92)),
    "grey16.png": ("sixteen_bit", sixteen_bit_png),
    "colour16.png": ("sixteen_bit", sixteen_bit_colour_png),
    "palette.png": ("palette", palette_png),
    "palette_alpha.png": ("palette", lambda: palette_png(transparent=True)),
    "rotated.jpg": ("exif_rotated", rotated_jpeg),
    "moving.gif": ("animated", animated_gif),
    "really_png.jpg": ("wrong_extension", lambda: encode(picture(12), "PNG")),
    "grey_alpha.png": ("", grey_alpha_png),
    "modern.webp": ("", lambda: encode(picture(13), "WEBP", quality=92)),
    "scan.tif": ("", lambda: encode(picture(14), "TIFF")),
    "grey.jpg": ("", lambda: encode(picture(15).convert("L"), "JPEG", quality=92)),
    "mask.png": ("", lambda: encode(picture(16).convert("1"), "PNG")),
}
"""Expected code of the finding ("" for none), and bytes, by file name; all of them decode."""


def write_files(folder: Path, files: dict[str, bytes]) -> dict[str, Path]:
    """Write files below ``folder``, including sub-folders."""
    paths = {name: folder / name for name in files}
    for name, data in files.items():
        paths[name].parent.mkdir(parents=True, exist_ok=True)
        paths[name].write_bytes(data)
    return paths


def dataset_of(
    folder: Path,
    files: dict[str, bytes],
    *,
    splits: dict[str, str] | None = None,
    boxes: list[tuple[str, int, tuple[float, float, float, float]]] = (),  # type: ignore[assignment]
    class_names: tuple[str, ...] = ("scratch", "pit"),
    **columns: list[Any],
) -> Dataset:
    """Write the files, and return a data set of them.

    Args:
        splits: Split by file name; others have none.
        boxes: File name, class id and xyxy of each.
        columns: Additional columns of ``images``.
    """
    paths = write_files(folder, files)
    names = list(files)
    images = {
        "key": names,
        "path": [str(paths[name]) for name in names],
        "split": [(splits or {}).get(name, "") for name in names],
        **columns,
    }
    table: dict[str, list[Any]] = {
        "image": [names.index(name) for name, _, _ in boxes],
        "class_id": [class_id for _, class_id, _ in boxes],
        "source_id": [str(number) for number in range(1, len(boxes) + 1)],
    }
    for index, column in enumerate(("x1", "y1", "x2", "y2")):
        table[column] = [xyxy[index] for _, _, xyxy in boxes]
    return Dataset.from_columns("parts", class_names, images, table if boxes else {})


def decodes_or_refuses(seed: bytes, changes: Sequence[tuple[int, int]], length: int) -> None:
    """Assert that an image cut to ``length``, with some bytes changed, is decoded or raises an `ImageError`."""
    data = bytearray(seed[:length])
    for place, value in changes:
        data[place % len(data)] = value
    for function in (decode_image, read_header):
        with contextlib.suppress(ImageError):
            function(bytes(data), max_pixels=1_000_000)
