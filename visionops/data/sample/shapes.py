"""Draw the shapes of defects as coverage: float32 maps, 0 to 1."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["SUPERSAMPLING", "Map", "downsample", "draw_blob", "draw_ellipse", "draw_noise", "draw_stroke", "grid_side"]

Map = npt.NDArray[np.float32]
SUPERSAMPLING = 4
_PAD = 8.0  # room around a defect for its blurred edges


def grid_side(extent: float, scale: float) -> int:
    """Return the side, in pixels, of a map that holds a defect of ``extent`` and its blurred edges."""
    return math.ceil((extent + 2 * _PAD) * scale)


def _points(scale: float, points: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    """Convert pixels of the reference size to OpenCV's fixed point (4 fractional bits) on a supersampled canvas."""
    return np.asarray(np.round((points + _PAD) * (scale * SUPERSAMPLING * 16)), np.int32)


def draw_stroke(side: int, scale: float, curve: npt.NDArray[np.float64], width: npt.NDArray[np.float64]) -> Map:
    """Return a line of varying width: coverage (side, side)."""
    canvas = np.zeros((side * SUPERSAMPLING, side * SUPERSAMPLING), np.uint8)
    along = np.gradient(curve, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.linalg.norm(along, axis=1, keepdims=True)
    left = _points(scale, curve + normal * width[:, None] / 2)
    right = _points(scale, curve - normal * width[:, None] / 2)
    for i in np.flatnonzero((width[:-1] > 0) & (width[1:] > 0)):
        cv2.fillConvexPoly(canvas, np.stack([left[i], left[i + 1], right[i + 1], right[i]]), 255, cv2.LINE_8, 4)
    return downsample(canvas, side)


def draw_ellipse(
    canvas: npt.NDArray[np.uint8], scale: float, centre: tuple[float, float], axes: tuple[float, float], angle: float
) -> None:
    """Fill an ellipse on a supersampled canvas; ``angle`` in degrees, lengths in pixels of the reference size."""
    x, y = _points(scale, np.asarray(centre))
    a, b = np.round(np.asarray(axes) * scale * SUPERSAMPLING * 16).astype(int)
    cv2.ellipse(canvas, (int(x), int(y)), (int(a), int(b)), angle, 0, 360, 255, -1, cv2.LINE_8, 4)


def downsample(canvas: npt.NDArray[np.uint8], side: int) -> Map:
    """Return the coverage (side, side) of a supersampled canvas."""
    small = cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32) / np.float32(255)


def draw_noise(rng: np.random.Generator, side: int, grain: float) -> Map:
    """Return smooth noise of unit variance whose spots are ``grain`` pixels wide."""
    cells = max(3, math.ceil(side / grain) + 1)
    coarse = rng.standard_normal((cells, cells), np.float32)
    return np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC), np.float32)


def draw_blob(
    rng: np.random.Generator,
    side: int,
    scale: float,
    axes: tuple[float, float],
    angle: float,
    grain: float,
    roughness: float,
) -> Map:
    """Return one connected irregular shape around an ellipse: coverage (side, side)."""
    axis = (np.arange(side, dtype=np.float32) + 0.5) - np.float32(side / 2)
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    u = (axis[None, :] * cos + axis[:, None] * sin) / (axes[0] * scale)
    v = (-axis[None, :] * sin + axis[:, None] * cos) / (axes[1] * scale)
    rough = draw_noise(rng, side, grain * scale) + 0.35 * draw_noise(rng, side, grain * scale / 2.5)
    # A band-limited edge: 1 inside, 0 outside, about a pixel and a half of transition
    inside = 0.8 - np.sqrt(u * u + v * v) + np.float32(roughness * 0.28) * np.clip(rough, -2, 2)
    shape = np.clip(inside * np.float32(min(axes) * scale / 1.5) + 0.5, 0, 1)
    count, labels, stats, _ = cv2.connectedComponentsWithStats((shape > 0.05).astype(np.uint8))
    if count > 2:
        largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
        shape = shape * (labels == largest)
    return np.asarray(shape, np.float32)
