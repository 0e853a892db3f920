"""Render a surface of brushed metal with its defects and their boxes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from visionops.data.sample.placing import REFERENCE_SIZE, place_defects
from visionops.data.sample.reliefs import Defect
from visionops.data.sample.shapes import Map
from visionops.data.settings import SampleSource

__all__ = ["Surface", "render_surface"]


@dataclasses.dataclass(frozen=True, slots=True)
class Surface:
    """A rendered image and its ground truth."""

    image: npt.NDArray[np.uint8]
    """uint8 (size, size, 3), RGB."""
    boxes: npt.NDArray[np.int64]
    """int64 (N, 4), xyxy, pixels; x2 and y2 are exclusive."""
    areas: npt.NDArray[np.int64]
    """int64 (N,), visible pixels of each defect."""
    defects: tuple[Defect, ...]
    """Kind of defect of each box."""


def render_surface(source: SampleSource, seed: Sequence[int], defects: Sequence[Defect]) -> Surface:
    """Draw one surface.

    The surface depends only on ``seed``: with and without defects it is the same except for the defects.

    Args:
        source: ``size`` and ``difficulty`` are used.
        seed: Any non-negative integers.
        defects: Up to four defects to draw; none for a clean surface.
    """
    size, scale = source.size, source.size / REFERENCE_SIZE
    contrast = _between(1.2, 0.35, source.difficulty)
    # Two generators, because the defects' draws must not change the surface below them.
    rng = np.random.default_rng([*seed, 0])
    light, brush = rng.uniform(0, 2 * math.pi), rng.normal(0, 4.0)
    placed = place_defects(np.random.default_rng([*seed, 1]), size, light, defects)
    texture = _brushed(rng, size, scale, brush) * np.float32(_between(0.7, 1.7, source.difficulty))
    shading = _illumination(rng, size, brush)
    balance = (1 + rng.normal(0.006, 0.012), 1.0, 1 + rng.normal(0.0, 0.02))
    noise = rng.standard_normal((size, size), np.float32) * np.float32(_between(0.006, 0.02, source.difficulty))

    grey = shading * (1 + texture)
    for item in placed:
        there = item.there
        grey[there] += shading[there] * (contrast * item.change - 0.6 * item.cover * texture[there])
    grey = cv2.GaussianBlur(grey, (0, 0), max(0.35, 0.55 * scale)) + noise
    channels = [grey * np.float32(255 * gain) for gain in balance]
    for item in placed:
        for channel, gain in zip(channels, item.tint, strict=True):
            channel[item.there] *= 1 + item.cover * (contrast * (gain - 1))
    return Surface(
        image=np.clip(np.rint(cv2.merge(channels)), 0, 255).astype(np.uint8),
        boxes=np.asarray([item.box for item in placed], np.int64).reshape(-1, 4),
        areas=np.asarray([item.area for item in placed], np.int64),
        defects=tuple(item.defect for item in placed),
    )


def _between(easy: float, hard: float, difficulty: float) -> float:
    return easy + (hard - easy) * difficulty


def _brushed(rng: np.random.Generator, size: int, scale: float, angle: float) -> Map:
    """Return streaks along x, turned by ``angle`` degrees: relative brightness, about ±0.1."""
    reach = int(size * 1.25) + 8
    texture = np.zeros((reach, reach), np.float32)
    for width, length, strength in ((1.0, 70.0, 0.042), (2.2, 220.0, 0.030), (9.0, 600.0, 0.022), (1.0, 9.0, 0.022)):
        rows = max(4, int(reach / max(1.0, width * scale)))
        columns = max(4, int(reach / (length * scale)) + 3)
        streaks = cv2.resize(
            rng.standard_normal((rows, columns), np.float32), (reach, reach), interpolation=cv2.INTER_CUBIC
        )
        texture += streaks * np.float32(strength)
    turn = np.asarray(cv2.getRotationMatrix2D((reach / 2, reach / 2), angle, 1.0), np.float64)
    turn[:, 2] -= (reach - size) / 2
    return np.asarray(cv2.warpAffine(texture, turn, (size, size), flags=cv2.INTER_LINEAR), np.float32)


def _illumination(rng: np.random.Generator, size: int, angle: float) -> Map:
    """Return the grey level of the bare surface: a slow gradient, dark corners, a specular band across the brushing."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = axis[None, :], axis[:, None]
    direction = rng.uniform(0, 2 * math.pi)
    gradient = np.float32(0.09) * (x * np.float32(math.cos(direction)) + y * np.float32(math.sin(direction)))
    vignette = np.float32(rng.uniform(0.06, 0.13)) * (x * x + y * y)
    lean = np.float32(math.tan(math.radians(angle)))
    across = (x - lean * y - np.float32(rng.uniform(-1.2, 1.2))) / np.float32(rng.uniform(0.25, 0.5))
    band = np.float32(rng.uniform(0.05, 0.16)) * np.exp(-across * across)
    return np.asarray(np.float32(rng.uniform(0.47, 0.6)) * (1 + gradient - vignette + band), np.float32)
