"""Embed images so that copies are found despite changes of encoding, size or light.

The default needs no model, so it works before a use case is trained. It describes the shape of the whole picture by its
low frequencies, each weighted by its height, because images have most of their energy in the lowest ones, which all
parts before one camera share.
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
"""Side length of the thumbnail in pixels."""
_LOW: Final = 12
"""Number of frequencies along each axis, of which those nearest to zero are kept."""
_FLAT: Final = 1.0
"""Standard deviation of the grey values below which an image has nothing to compare."""


class Embedder(Protocol):
    """Embedder of one kind. Embeddings of different kinds are never compared."""

    @property
    def kind(self) -> str:
        """Return the name of the descriptor, or the version of the model, that makes the embeddings."""

    @property
    def size(self) -> int:
        """Return the number of values in an embedding."""

    @property
    def near(self) -> float:
        """Return the largest cosine distance, 0 to 2, at which two images count as copies of one picture."""

    def embed(self, data: bytes) -> Vector:
        """Return the embedding of an encoded image.

        Returns:
            float32 (size,), of length 1; zeros where the image has nothing to compare.

        Raises:
            ImageError: The bytes are not a usable image.
        """


class ShapeEmbedder:
    """Embed an image by the low frequencies of its luminance, without a model."""

    kind = "shape-1"
    """Kind of the embeddings. Any change of this class needs another kind."""
    near = 0.02

    def __init__(self) -> None:
        height = np.hypot(*np.indices((_LOW, _LOW)))
        self._kept = (height > 0) & (height < _LOW)  # remove the mean, which is the light
        self._weights = height[self._kept].astype(np.float32)

    @property
    def size(self) -> int:
        """Return the number of values in an embedding."""
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
