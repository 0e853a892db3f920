"""Why a model answers as it does: occlusion saliency, for every task and without a training framework.

Patch after patch of the image is covered, and the model asked again; where the answer loses support, it was looking
(Zeiler and Fergus, Visualizing and understanding convolutional networks, 2014, section 4.2). The patch is laid onto the
model's input, after crop and resize: on the image itself it would move the content crop.

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
"""Positions of the patch along each side: 64 inferences."""

Support = Callable[[Prediction, Prediction], float]
"""How strongly the second answer still says what the first says, 0 to 1."""

_PATCH = 2.0
"""Side of the patch in steps of the grid: neighbours overlap by half."""
_FLOOR = 1e-6
"""Support below this, or as close to 1, counts as this: what float32 probabilities still tell apart."""
_FAINT = 0.05
"""A largest loss below this is drawn as faint as it is, not stretched to the full range."""


@dataclasses.dataclass(frozen=True, slots=True)
class Saliency:
    """Where a model looked in one image."""

    grid: npt.NDArray[np.float32]
    """float32 (rows, columns): by how much the log-odds of the answer's support fall when the patch around the middle
    of this cell is covered. Above 0 speaks for the answer, below 0 against it. Log-odds, because the probability of a
    sure answer does not move before half the image is gone."""
    box: tuple[float, float, float, float]
    """What the grid covers: xyxy in pixels of the original image. Less than all where the model crops or has tiles."""
    width: int
    """Pixels of the original image."""
    height: int

    def heat(self) -> npt.NDArray[np.float32]:
        """float32 (height, width), pixels of the original image: ``grid`` between its middles, 0 outside ``box``."""
        return self.heat_at(self.width, self.height)

    def heat_at(self, width: int, height: int) -> npt.NDArray[np.float32]:
        """`heat` for the image scaled to this size."""
        scale = np.array([width / self.width, height / self.height] * 2)
        x1, y1, x2, y2 = np.rint(np.array(self.box) * scale).astype(int).tolist()
        x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
        smooth = cv2.resize(self.grid, (x2 - x1, y2 - y1), interpolation=cv2.INTER_CUBIC)
        heat = np.zeros((height, width), dtype=np.float32)
        # A cubic curve overshoots its points.
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
    """Answer for one image, and tell where the answer comes from.

    Of an image that is looked at in tiles, the tile with the best box is explained, and the others left dark.
    Costs ``grid * grid`` inferences more than the answer. The same image gives the same saliency.

    Args:
        image: An encoded file, or uint8 (H, W, 3) RGB.
        options: Of the answer, as `Predictor.predict` takes them.
        grid: Positions of the patch along each side.
        support: What is asked of the changed image; the whole answer when absent.
        where: Named in errors.

    Raises:
        ImageError: The bytes or the array cannot be used.
        OptionError: The task knows no such option.
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
                # A detector must not cut off what fades: the fall would be a cliff at its threshold.
                view = RawOutput(predictor.engine.infer(to_tensor(covered[None], spec)), geometry)
                rest = support(explained, predictor.decoder.decode([view], predictor.decoder.everything))
                falls[row, column] = _log_odds(base) - _log_odds(rest)
    box = geometry.to_original(np.array([[x1, y1, x2, y2]], dtype=np.float32))[0]
    covers = (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
    return Saliency(falls, covers, pixels.shape[1], pixels.shape[0]), answer


def draw_saliency(image: npt.NDArray[np.uint8], saliency: Saliency) -> npt.NDArray[np.uint8]:
    """The image in grey, and in colour over it what spoke for the answer, from dark red to yellow.

    Args:
        image: uint8 (H, W, 3), RGB: the one that was explained, at any size.

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
    """The part of the model's input that shows the image and is no padding: xyxy, whole pixels."""
    x1, y1 = max(round(geometry.pad_x), 0), max(round(geometry.pad_y), 0)
    x2 = min(round(geometry.pad_x + geometry.width * geometry.gain_x), width)
    y2 = min(round(geometry.pad_y + geometry.height * geometry.gain_y), height)
    return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)


def _patches(start: int, end: int, grid: int) -> list[tuple[int, int]]:
    """From where to where each patch reaches along one side; at least a pixel."""
    step = (end - start) / grid
    middles = [start + step * (position + 0.5) for position in range(grid)]
    reach = step * _PATCH / 2
    return [(max(math.floor(m - reach), start), min(math.ceil(m + reach), end)) for m in middles]


def _log_odds(share: float) -> float:
    clipped = min(max(share, _FLOOR), 1 - _FLOOR)
    return math.log(clipped / (1 - clipped))
