"""From an RGB image to the tensor a model takes, and from its pixels back.

One specification, stored in the bundle, and one function that executes it, called by training, evaluation,
serving and batch alike: another resize, padding or channel order at inference is not possible.
"""

from __future__ import annotations

import dataclasses
import enum

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Geometry", "PreprocessingSpec", "Resize", "preprocess"]


class Resize(enum.StrEnum):
    """How an image is brought to the input size."""

    LETTERBOX = "letterbox"
    """Scaled to fit with its aspect kept, centred, the rest padded (detectors)."""


class PreprocessingSpec(BaseModel):
    """Everything between decoded RGB pixels and the model's input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(gt=0)
    height: int = Field(gt=0)
    resize: Resize = Resize.LETTERBOX
    pad_value: int = Field(default=114, ge=0, le=255)
    scale: float = 1.0 / 255.0
    """Multiplies the 0-255 values."""


@dataclasses.dataclass(frozen=True, slots=True)
class Geometry:
    """How input pixels map to pixels of the original image."""

    gain_x: float
    """Input pixels per original pixel. The sides differ by the rounding of each to whole pixels."""
    gain_y: float
    pad_x: float
    pad_y: float
    width: int
    """Of the original image."""
    height: int

    def to_original(self, xyxy: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Boxes (N, 4) in input pixels to boxes in pixels of the original, clipped to it."""
        pad = np.array([self.pad_x, self.pad_y] * 2, dtype=np.float32)
        boxes = (xyxy - pad) / np.array([self.gain_x, self.gain_y] * 2, dtype=np.float32)
        limit = np.array([self.width, self.height] * 2, dtype=np.float32)
        clipped: npt.NDArray[np.float32] = np.clip(boxes, np.float32(0), limit)
        return clipped


def preprocess(image: npt.NDArray[np.uint8], spec: PreprocessingSpec) -> tuple[npt.NDArray[np.float32], Geometry]:
    """Bring one image into the form the model takes.

    Args:
        image: uint8 (H, W, 3), RGB.

    Returns:
        The tensor, float32 (1, 3, spec.height, spec.width), RGB, contiguous; and the way back for its boxes.
    """
    height, width = image.shape[:2]
    gain = min(spec.height / height, spec.width / width)
    # Rounding and the -0.1/+0.1 split of odd padding are those of the trainer: half a pixel would be skew.
    new_width, new_height = max(round(width * gain), 1), max(round(height * gain), 1)
    pad_x, pad_y = (spec.width - new_width) / 2, (spec.height - new_height) / 2
    if (new_width, new_height) != (width, height):
        resized = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
        image = np.asarray(resized, dtype=np.uint8)
    top, left = round(pad_y - 0.1), round(pad_x - 0.1)
    canvas = np.full((spec.height, spec.width, 3), spec.pad_value, dtype=np.uint8)
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    tensor = np.empty((1, 3, spec.height, spec.width), dtype=np.float32)
    np.multiply(canvas.transpose(2, 0, 1)[None], np.float32(spec.scale), out=tensor)
    return tensor, Geometry(new_width / width, new_height / height, float(left), float(top), width, height)
