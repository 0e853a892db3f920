"""Draw the four kinds of defect, each on its own."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable

import cv2
import numpy as np

from visionops.data.sample.shapes import (
    SUPERSAMPLING,
    Map,
    downsample,
    draw_blob,
    draw_ellipse,
    draw_noise,
    draw_stroke,
    grid_side,
)

__all__ = ["RELIEFS", "Defect", "Relief"]

_MIN_SPREAD = 20.0  # of a scratch, across its length: a box of a few pixels cannot be matched at IoU 0.5


class Defect(enum.StrEnum):
    """Kinds of defects on a surface."""

    SCRATCH = "scratch"
    """A groove cut by something hard: thin, long, one edge lit and the other in shadow."""
    PIT = "pit"
    """A cluster of small craters."""
    INCLUSION = "inclusion"
    """A foreign particle rolled into the metal: dark, irregular, drawn out along the rolling direction."""
    PATCH = "patch"
    """A blotch of oxide: larger, dull, tinted, with a darker rim."""


@dataclasses.dataclass(frozen=True, slots=True)
class Relief:
    """A defect before it is placed: maps of one shape (H, W), float32."""

    depth: Map
    """Below the surface, in pixels of the reference size; the light shades its slopes."""
    reflectance: Map
    """Relative change: -0.3 is a third darker."""
    cover: Map
    """0 to 1: share of the brushed texture that is hidden."""
    tint: tuple[float, float, float]
    """Gain of R, G and B where covered."""


def _scratch(rng: np.random.Generator, scale: float, extent: float) -> Relief:
    side = grid_side(extent, scale)
    t = np.linspace(0, 1, 49)
    while True:
        angle = rng.uniform(0, math.pi)
        length = rng.uniform(0.55, 1.0) * extent * 0.95
        ends = np.asarray([[-0.5, 0.0], [0.5, 0.0]]) * length
        bend = np.asarray([rng.uniform(-0.15, 0.15) * length, rng.normal(0, 0.16) * length])
        turn = np.asarray([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        curve = (np.outer((1 - t) ** 2, ends[0]) + np.outer(2 * t * (1 - t), bend) + np.outer(t**2, ends[1])) @ turn
        spread = np.ptp(curve, axis=0)
        if spread.min() >= _MIN_SPREAD and spread.max() <= extent:
            break
    curve += extent / 2 - (curve.max(axis=0) + curve.min(axis=0)) / 2
    along = np.linspace(0, 1, 13)
    width = rng.uniform(2.6, 4.4) * (0.4 + 0.6 * np.sin(math.pi * t) ** 0.6)
    width *= 1 + 0.35 * np.interp(t, along, rng.uniform(-1, 1, 13))
    if rng.random() < 0.35:
        width[np.abs(t - rng.uniform(0.3, 0.65)) < 3.5 / length] = 0
    core = draw_stroke(side, scale, curve, width)
    bright = rng.random() < 0.7
    reflectance = core * np.float32(0.42 if bright else -0.42)
    beside = np.asarray([math.sin(angle), math.cos(angle)]) * rng.choice((-1, 1))
    if bright:  # the burr throws a shadow along one edge
        shadow = draw_stroke(side, scale, curve + 1.8 * beside, width * 0.7)
        reflectance -= np.float32(0.32) * shadow * (1 - core)
    if rng.random() < 0.5:  # a second, lighter touch of the same object
        part = slice(int(rng.integers(4, 16)), int(rng.integers(30, 45)))
        hairline = draw_stroke(side, scale, curve[part] - rng.uniform(4, 7) * beside, width[part] * 0.4)
        reflectance += np.float32(0.30 if bright else -0.30) * hairline * (1 - core)
    depth = cv2.GaussianBlur(core, (0, 0), 0.9 * scale) * np.float32(2.6)
    return Relief(depth, reflectance, core * np.float32(0.6), (1.0, 1.0, 1.0))


def _pit(rng: np.random.Generator, scale: float, extent: float) -> Relief:
    side = grid_side(extent, scale)
    reach = rng.uniform(0.22, 0.36) * extent
    canvas = np.zeros((side * SUPERSAMPLING, side * SUPERSAMPLING), np.uint8)
    squeeze = rng.uniform(0.65, 1.0)
    for radius in np.sort(rng.uniform(1.9, 5.2, int(rng.integers(9, 18)))):
        distance, bearing = reach * math.sqrt(rng.random()), rng.uniform(0, 2 * math.pi)
        centre = (extent / 2 + distance * math.cos(bearing), extent / 2 + squeeze * distance * math.sin(bearing))
        axes = (radius * rng.uniform(0.8, 1.2), radius * rng.uniform(0.8, 1.2))
        draw_ellipse(canvas, scale, centre, axes, rng.uniform(0, 180))
    crater = downsample(canvas, side)
    depth = cv2.GaussianBlur(crater, (0, 0), 1.1 * scale) * np.float32(3.4)
    reflectance = cv2.GaussianBlur(crater, (0, 0), 0.6 * scale) * np.float32(-0.42)
    return Relief(depth, reflectance, crater * np.float32(0.7), (1.0, 1.0, 1.0))


def _inclusion(rng: np.random.Generator, scale: float, extent: float) -> Relief:
    side = grid_side(extent, scale)
    length = rng.uniform(0.42, 0.8) * extent
    ratio = rng.uniform(0.26, 0.42)
    angle = rng.normal(0, 35) + (90 if rng.random() < 0.25 else 0)
    shape = draw_blob(rng, side, scale, (length / 2, max(8.0, length * ratio / 2)), angle, grain=7.0, roughness=0.55)
    mottle = draw_noise(rng, side, 4.0 * scale)
    reflectance = -shape * (np.float32(0.50) + np.float32(0.10) * mottle)
    depth = cv2.GaussianBlur(shape, (0, 0), 1.2 * scale) * np.float32(-1.6)
    return Relief(depth, reflectance, shape, (1.02, 1.0, 0.96))


def _patch(rng: np.random.Generator, scale: float, extent: float) -> Relief:
    side = grid_side(extent, scale)
    radius = rng.uniform(0.28, 0.42) * extent
    shape = draw_blob(
        rng, side, scale, (radius, radius * rng.uniform(0.7, 1.0)), rng.uniform(0, 180), grain=16.0, roughness=0.5
    )
    rim = shape - cv2.erode(shape, np.ones((3, 3), np.uint8), iterations=max(1, round(2 * scale)))
    mottle = draw_noise(rng, side, 9.0 * scale)
    level = np.float32(-0.17 if rng.random() < 0.65 else 0.17)
    reflectance = shape * (level + np.float32(0.06) * mottle) - np.float32(0.10) * rim
    tint = (1.06, 0.99, 0.84) if rng.random() < 0.6 else (0.90, 0.98, 1.07)
    return Relief(np.zeros_like(shape), reflectance, shape * np.float32(0.75), tint)


RELIEFS: dict[Defect, Callable[[np.random.Generator, float, float], Relief]] = {
    Defect.SCRATCH: _scratch,
    Defect.PIT: _pit,
    Defect.INCLUSION: _inclusion,
    Defect.PATCH: _patch,
}
