"""Convert an RGB image to a model's input tensor, and boxes in the input back to the image.

One specification, stored in the bundle, and one function that executes it are used by training, evaluation, serving and
batch inference alike. So inference cannot use another resize, padding or channel order.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from visionops.inference.preprocessing_spec import ContentCrop, Interpolation, PreprocessingSpec, Resize

__all__ = [
    "Geometry",
    "Window",
    "content_box",
    "preprocess",
    "to_canvas",
    "to_tensor",
]


class Window(NamedTuple):
    """A rectangle of an image, in pixels."""

    x: int
    y: int
    width: int
    height: int


@dataclasses.dataclass(frozen=True, slots=True)
class Geometry:
    """Mapping from input pixels to pixels of the original image; a view shows all of the image or a tile."""

    gain_x: float
    """Input pixels per original pixel. The two sides differ because each is rounded to whole pixels."""
    gain_y: float
    pad_x: float
    pad_y: float
    width: int
    """Width of the view in pixels of the original image."""
    height: int
    left: int = 0
    """Left edge of the view in the original image."""
    top: int = 0

    def to_original(self, xyxy: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return boxes (N, 4) in input pixels as boxes in pixels of the original, clipped to the view."""
        pad = np.array([self.pad_x, self.pad_y] * 2, dtype=np.float32)
        boxes = (xyxy - pad) / np.array([self.gain_x, self.gain_y] * 2, dtype=np.float32)
        limit = np.array([self.width, self.height] * 2, dtype=np.float32)
        clipped: npt.NDArray[np.float32] = np.clip(boxes, np.float32(0), limit)
        if self.left or self.top:
            clipped += np.array([self.left, self.top] * 2, dtype=np.float32)
        return clipped


_INTERPOLATIONS = {Interpolation.LINEAR: cv2.INTER_LINEAR, Interpolation.AREA: cv2.INTER_AREA}


def preprocess(
    image: npt.NDArray[np.uint8], spec: PreprocessingSpec, window: Window | None = None
) -> tuple[npt.NDArray[np.float32], Geometry]:
    """Convert an image, or one tile of it, to the form the model takes: `to_canvas`, then `to_tensor`.

    Args:
        image: uint8 (H, W, 3), RGB.
        window: The tile; the whole image when None.

    Returns:
        The tensor, float32 (1, 3, spec.height, spec.width), RGB, contiguous; and the geometry that maps its boxes back.
    """
    canvas, geometry = to_canvas(image, spec, window)
    return to_tensor(canvas[None], spec), geometry


def to_canvas(
    image: npt.NDArray[np.uint8], spec: PreprocessingSpec, window: Window | None = None
) -> tuple[npt.NDArray[np.uint8], Geometry]:
    """Apply the geometric half: crop, resize, pad. Training augments the result.

    Args:
        image: uint8 (H, W, 3), RGB.
        window: The tile; the whole image when None.

    Returns:
        uint8 (spec.height, spec.width, 3), RGB; and the geometry that maps boxes back.
    """
    if window is not None:
        image = image[window.y : window.y + window.height, window.x : window.x + window.width]
    left_of_view, top_of_view = (window.x, window.y) if window else (0, 0)
    full_height, full_width = image.shape[:2]
    x, y, width, height = content_box(image, spec.crop) if spec.crop else (0, 0, full_width, full_height)
    if spec.resize is Resize.CENTER_CROP:
        # Crop before scaling: a strip of 1 x 100,000 pixels would first grow to thousands of megapixels.
        x, y, width, height = _middle(x, y, width, height, spec)
    image = image[y : y + height, x : x + width]
    new_width, new_height = _new_size(width, height, spec)
    if (new_width, new_height) != (width, height):
        resized = cv2.resize(image, (new_width, new_height), interpolation=_INTERPOLATIONS[spec.interpolation])
        image = np.asarray(resized, dtype=np.uint8)
    # Rounding, and -0.1/+0.1 for odd padding, match the detectors' trainer; otherwise boxes are off by half a pixel.
    left, top = round((spec.width - new_width) / 2 - 0.1), round((spec.height - new_height) / 2 - 0.1)
    gain_x, gain_y = new_width / width, new_height / height
    geometry = Geometry(
        gain_x, gain_y, left - x * gain_x, top - y * gain_y, full_width, full_height, left_of_view, top_of_view
    )
    if image.shape[:2] == (spec.height, spec.width):
        return np.ascontiguousarray(image), geometry
    canvas = np.full((spec.height, spec.width, 3), spec.pad_value, dtype=np.uint8)
    canvas[top : top + new_height, left : left + new_width] = image
    return canvas, geometry


def to_tensor(canvases: npt.NDArray[np.uint8], spec: PreprocessingSpec) -> npt.NDArray[np.float32]:
    """Apply the photometric half: scale and normalise.

    Args:
        canvases: uint8 (N, H, W, 3), RGB.

    Returns:
        float32 (N, 3, H, W), RGB, contiguous.
    """
    count, height, width, _ = canvases.shape
    tensor = np.empty((count, 3, height, width), dtype=np.float32)
    np.multiply(canvases.transpose(0, 3, 1, 2), np.float32(spec.scale), out=tensor)
    if spec.mean != (0.0, 0.0, 0.0):
        tensor -= np.array(spec.mean, dtype=np.float32)[:, None, None]
    if spec.std != (1.0, 1.0, 1.0):
        tensor /= np.array(spec.std, dtype=np.float32)[:, None, None]
    return tensor


def content_box(image: npt.NDArray[np.uint8], crop: ContentCrop) -> tuple[int, int, int, int]:
    """Return the box of an image's content: x, y, width and height in pixels; the whole image when it has none."""
    height, width = image.shape[:2]
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    background = np.median(border, axis=0)
    # The median of an even count may lie between two values.
    content = (np.abs(image.astype(np.float32) - background.astype(np.float32)) > crop.tolerance).any(axis=2)
    rows, columns = np.flatnonzero(content.any(axis=1)), np.flatnonzero(content.any(axis=0))
    if not len(rows):
        return 0, 0, width, height
    side = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    side = round(side * (1 + 2 * crop.margin))
    across, down = min(side, width), min(side, height)
    x = int(np.clip((columns[0] + columns[-1] + 1 - across) // 2, 0, width - across))
    y = int(np.clip((rows[0] + rows[-1] + 1 - down) // 2, 0, height - down))
    return x, y, int(across), int(down)


def _middle(x: int, y: int, width: int, height: int, spec: PreprocessingSpec) -> tuple[int, int, int, int]:
    """Return the largest centred part of a box with the aspect of the input; at least one pixel."""
    gain = max(spec.height / height, spec.width / width)
    across, down = min(max(round(spec.width / gain), 1), width), min(max(round(spec.height / gain), 1), height)
    return x + (width - across) // 2, y + (height - down) // 2, across, down


def _new_size(width: int, height: int, spec: PreprocessingSpec) -> tuple[int, int]:
    if spec.resize is not Resize.LETTERBOX:
        return spec.width, spec.height
    gain = min(spec.height / height, spec.width / width)
    return max(round(width * gain), 1), max(round(height * gain), 1)
