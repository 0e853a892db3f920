"""Embeddings by which copies of an image are found, whatever was done to its encoding, size or light.

The default needs no model, so that it serves an upload of a use case that nobody has trained yet. It sees the shape of
the whole picture in its low frequencies, each weighted by its height: images have most of their energy in the lowest
ones, which all parts before one camera share.
"""

from __future__ import annotations

from typing import Final, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from visionops.inference.image import decode_image

__all__ = ["Embedder", "ShapeEmbedder", "Vector"]

Vector = npt.NDArray[np.float32]

_SIDE: Final = 64
"""Pixels of the thumbnail's sides."""
_LOW: Final = 12
"""Frequencies along each axis, of which those nearest to zero are kept."""
_FLAT: Final = 1.0
"""Standard deviation of the grey values below which an image shows nothing that could be compared."""


class Embedder(Protocol):
    """Makes embeddings of one kind. Embeddings of two kinds are never compared."""

    @property
    def kind(self) -> str:
        """Which descriptor, or which version of which model, makes them."""

    @property
    def size(self) -> int:
        """Numbers in an embedding."""

    @property
    def near(self) -> float:
        """Largest cosine distance, 0 to 2, at which two images count as copies of one picture."""

    def embed(self, data: bytes) -> Vector:
        """Return the embedding of an encoded image.

        Returns:
            float32 (size,), of length 1; zeros where the image shows nothing to compare, like no other.

        Raises:
            ImageError: The bytes are no usable image.
        """


class ShapeEmbedder:
    """Embeds an image by the low frequencies of its luminance; needs no model."""

    kind = "shape-1"
    """A change of anything in this class makes another kind."""
    near = 0.02

    def __init__(self) -> None:
        height = np.hypot(*np.indices((_LOW, _LOW)))
        self._kept = (height > 0) & (height < _LOW)  # without the mean, which is the light
        self._weights = height[self._kept].astype(np.float32)

    @property
    def size(self) -> int:
        """Numbers in an embedding."""
        return len(self._weights)

    def embed(self, data: bytes) -> Vector:
        """See `Embedder`."""
        return self.embed_pixels(decode_image(data))

    def embed_pixels(self, rgb: npt.NDArray[np.uint8]) -> Vector:
        """Return the embedding of a decoded image.

        Args:
            rgb: uint8 (H, W, 3), RGB, upright.
        """
        grey = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        if grey.std() < _FLAT:
            return np.zeros(self.size, dtype=np.float32)
        found = cv2.dct(grey.astype(np.float32))[:_LOW, :_LOW][self._kept] * self._weights
        unit: Vector = (found / np.linalg.norm(found)).astype(np.float32)
        return unit
