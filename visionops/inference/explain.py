"""Explain answers by occlusion saliency, for every task and without a training framework.

Each patch of the image is covered in turn and the model runs again. The answer depends on the patches that reduce its
support (Zeiler and Fergus, Visualizing and understanding convolutional networks, 2014, section 4.2). The patch covers
the model's input after crop and resize, because on the image itself it would move the content crop.

>>> saliency, prediction = explain(predictor, Path("part.jpg").read_bytes())
>>> Image.fromarray(draw_saliency(predictor.pixels(data), saliency)).save("why.png")
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

import cv2
import numpy as np
import numpy.typing as npt

from visionops.inference.decoders import RawOutput
from visionops.inference.prediction import Prediction
from visionops.inference.predictor import Image, Predictor
from visionops.inference.preprocessing import Geometry, Window, to_canvas, to_tensor

__all__ = ["DEFAULT_GRID", "Saliency", "Support", "draw_saliency", "explain"]

DEFAULT_GRID = 8
"""Number of positions of the patch along each side: 64 inferences in total."""

Support = Callable[[Prediction, Prediction], float]
"""Function that returns how strongly the second answer supports the first, 0 to 1."""

_PATCH = 2.0
"""Side of the patch in steps of the grid; neighbours overlap by half."""
_FLOOR = 1e-6
"""Lower bound of support, and of 1 minus support: the resolution of float32 probabilities."""
_FAINT = 0.05
"""A largest loss below this is drawn faintly instead of being stretched to the full range."""


@dataclasses.dataclass(frozen=True, slots=True)
class Saliency:
    """Saliency of one image."""

    grid: npt.NDArray[np.float32]
    """float32 (rows, columns): decrease of the log-odds of the answer's support when the patch around the middle of
    this cell is covered. Above 0 supports the answer, below 0 contradicts it. Log-odds are used because the probability
    of a confident answer hardly changes until half the image is covered."""
    box: tuple[float, float, float, float]
    """Area that the grid covers: xyxy in pixels of the original image. Smaller than the image where the model crops or
    tiles."""
    width: int
    """Width of the original image in pixels."""
    height: int

    def heat(self) -> npt.NDArray[np.float32]:
        """Return a float32 (height, width) map of the original image: ``grid`` interpolated, 0 outside ``box``."""
        return self.heat_at(self.width, self.height)

    def heat_at(self, width: int, height: int) -> npt.NDArray[np.float32]:
        """Return `heat` scaled to this size."""
        scale = np.array([width / self.width, height / self.height] * 2)
        x1, y1, x2, y2 = np.rint(np.array(self.box) * scale).astype(int).tolist()
        x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
        smooth = cv2.resize(self.grid, (x2 - x1, y2 - y1), interpolation=cv2.INTER_CUBIC)
        heat = np.zeros((height, width), dtype=np.float32)
        # Cubic interpolation overshoots, so clip to the range of the grid.
        np.clip(smooth[: height - y1, : width - x1], self.grid.min(), self.grid.max(), out=heat[y1:y2, x1:x2])
        return heat


def explain(
    predictor: Predictor,
    image: Image,
    options: Mapping[str, float] | None = None,
    *,
    grid: int = DEFAULT_GRID,
    support: Support = lambda ours, theirs: ours.support(theirs),
    where: str = "image",
) -> tuple[Saliency, Prediction]:
    """Return the saliency of an image, and its answer.

    For a tiled image, only the tile with the best box is explained; the others stay dark. This takes ``grid * grid``
    inferences more than the answer. The same image gives the same saliency.

    Args:
        image: An encoded file, or uint8 (H, W, 3) RGB.
        options: Options of the answer, as for `Predictor.predict`.
        grid: Number of positions of the patch along each side.
        support: Function that scores the answer to the changed image; support of the whole answer when None.
        where: Named in errors.

    Raises:
        ImageError: The bytes or the array cannot be used.
        OptionError: The task does not have the option.
    """
    spec = predictor.bundle.card.preprocessing
    pixels = predictor.pixels(image, where)
    views = predictor.infer(pixels, where=where)
    answer = predictor.decoder.decode(views, options or {})
    parts = [predictor.decoder.decode([view], options or {}) for view in views]
    best = int(np.argmax([max((score for _, score in part.labels()), default=0.0) for part in parts]))
    explained, seen = parts[best], views[best].geometry
    canvas, geometry = to_canvas(pixels, spec, Window(seen.left, seen.top, seen.width, seen.height))
    base = support(explained, explained)
    x1, y1, x2, y2 = _visible(geometry, spec.width, spec.height)
    fill = canvas[y1:y2, x1:x2].mean(axis=(0, 1)).round().astype(np.uint8)
    falls = np.zeros((grid, grid), dtype=np.float32)
    if base > 0:
        for row, (top, bottom) in enumerate(_patches(y1, y2, grid)):
            for column, (left, right) in enumerate(_patches(x1, x2, grid)):
                covered = canvas.copy()
                covered[top:bottom, left:right] = fill
                # With its threshold, a detector would drop a fading box, and the support would fall abruptly.
                view = RawOutput(predictor.engine.infer(to_tensor(covered[None], spec)), geometry)
                rest = support(explained, predictor.decoder.decode([view], predictor.decoder.everything))
                falls[row, column] = _log_odds(base) - _log_odds(rest)
    box = geometry.to_original(np.array([[x1, y1, x2, y2]], dtype=np.float32))[0]
    covers = (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
    return Saliency(falls, covers, pixels.shape[1], pixels.shape[0]), answer


def draw_saliency(image: npt.NDArray[np.uint8], saliency: Saliency) -> npt.NDArray[np.uint8]:
    """Draw the saliency over the image in grey, supporting areas in dark red to yellow.

    Args:
        image: uint8 (H, W, 3), RGB: the explained image, at any size.

    Returns:
        uint8 (H, W, 3), RGB.
    """
    heat = np.maximum(saliency.heat_at(image.shape[1], image.shape[0]), 0)
    heat /= max(float(saliency.grid.max()), _FAINT)
    colours = cv2.cvtColor(cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    opacity = 0.8 * heat[:, :, None]
    return np.asarray(grey * (1 - opacity) + colours * opacity).round().astype(np.uint8)


def _visible(geometry: Geometry, width: int, height: int) -> tuple[int, int, int, int]:
    """Return the part of the model's input that shows the image without padding: xyxy, whole pixels."""
    x1, y1 = max(round(geometry.pad_x), 0), max(round(geometry.pad_y), 0)
    x2 = min(round(geometry.pad_x + geometry.width * geometry.gain_x), width)
    y2 = min(round(geometry.pad_y + geometry.height * geometry.gain_y), height)
    return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)


def _patches(start: int, end: int, grid: int) -> list[tuple[int, int]]:
    """Return the begin and end of each patch along one side; each has at least one pixel."""
    step = (end - start) / grid
    middles = [start + step * (position + 0.5) for position in range(grid)]
    reach = step * _PATCH / 2
    return [(max(math.floor(m - reach), start), min(math.ceil(m + reach), end)) for m in middles]


def _log_odds(share: float) -> float:
    clipped = min(max(share, _FLOOR), 1 - _FLOOR)
    return math.log(clipped / (1 - clipped))
