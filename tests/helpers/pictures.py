"""Make pictures that differ in shape, and modified copies of them."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageEnhance

__all__ = ["copies", "encode", "picture"]


def picture(number: int, side: int = 160) -> Image.Image:
    """Return soft blobs, different for each number."""
    coarse = np.random.default_rng(number).integers(40, 200, (7, 7), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).convert("RGB")


def encode(image: Image.Image, kind: str = "PNG", **options: int) -> bytes:
    """Return the bytes of a file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def copies(image: Image.Image) -> dict[str, bytes]:
    """Return the same picture as other bytes."""
    width, height = image.size
    return {
        "re-encoded": encode(image, "JPEG", quality=50),
        "smaller": encode(image.resize((width // 2, height // 2), Image.Resampling.LANCZOS)),
        "larger": encode(image.resize((width * 2, height * 2), Image.Resampling.BICUBIC)),
        "brighter": encode(ImageEnhance.Brightness(image).enhance(1.1)),
        "cropped": encode(image.crop((1, 1, width, height))),
        "turned": encode(image.rotate(0.5, Image.Resampling.BICUBIC)),
    }
