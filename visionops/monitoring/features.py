"""Describe an image by twelve numbers and a small descriptor, which change with the camera or the light.

Light and colour are measured on a thumbnail. Sharpness and noise are measured on the pixels in the middle of the image,
because shrinking removes both.
"""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["DESCRIPTOR_SIZE", "FEATURE_NAMES", "describe_image", "descriptor", "image_features"]

FEATURE_NAMES: Final = (
    "brightness",
    "contrast",
    "sharpness",
    "noise",
    "saturation",
    "red",
    "green",
    "blue",
    "entropy",
    "width",
    "height",
    "aspect",
)
DESCRIPTOR_SIZE: Final = 64
_SIDE = 64
"""Longer side of the thumbnail in pixels."""
_DENSE = 2
"""Maximum number of image pixels along each axis that a thumbnail pixel averages; the rest are skipped."""
_PATCH = 256
"""Longer side of the middle in pixels."""
_GREY_LEVELS = 64
_GRID = 4
_DIRECTIONS = 16
_SECOND_DIFFERENCE = np.array([1, -2, 1], dtype=np.float32)

_Pixels = npt.NDArray[np.uint8]


def describe_image(rgb: _Pixels) -> tuple[dict[str, float], npt.NDArray[np.float32]]:
    """Return `image_features` and `descriptor`, for little more than the time of one."""
    thumbnail = _thumbnail(rgb)
    grey = cv2.cvtColor(thumbnail, cv2.COLOR_RGB2GRAY)
    return _features(rgb, thumbnail, grey), _descriptor(thumbnail, grey)


def image_features(rgb: _Pixels) -> dict[str, float]:
    """Return twelve numbers by name, in the order of `FEATURE_NAMES`.

    ``brightness`` (mean) and ``contrast`` (standard deviation) of the luminance, 0 to 1. ``sharpness``: root of the
    mean squared gradient of the luminance, per pixel, 0 to 1. ``noise``: its standard deviation by Immerkær, Fast noise
    variance estimation, 1996, 0 to 1. ``saturation``: mean of HSV's, 0 to 1. ``red``, ``green``, ``blue``: means, 0 to
    1. ``entropy`` of the luminance in 64 steps, bits. ``width``, ``height``: pixels. ``aspect``: width by height.

    Args:
        rgb: uint8 (H, W, 3), decoded and upright, at least one pixel.
    """
    thumbnail = _thumbnail(rgb)
    return _features(rgb, thumbnail, cv2.cvtColor(thumbnail, cv2.COLOR_RGB2GRAY))


def descriptor(rgb: _Pixels) -> npt.NDArray[np.float32]:
    """Return the distribution of colours and edge directions, for models without an embedding of their own.

    Args:
        rgb: uint8 (H, W, 3), decoded and upright, at least one pixel.

    Returns:
        float32 (64,), 0 to 1: mean RGB of each cell of a 4 x 4 grid, row by row, then the share of 16 directions among
        the gradients of the luminance, each weighted by its length.
    """
    thumbnail = _thumbnail(rgb)
    return _descriptor(thumbnail, cv2.cvtColor(thumbnail, cv2.COLOR_RGB2GRAY))


def _thumbnail(rgb: _Pixels) -> _Pixels:
    longest = max(rgb.shape[:2])
    step = max(1, longest // (_SIDE * _DENSE))
    scale = min(1.0, _SIDE / longest)
    size = tuple(max(1, round(side * scale)) for side in (rgb.shape[1], rgb.shape[0]))
    rows, columns = (max(1, side // step) for side in rgb.shape[:2])
    # The pixels at multiples of `step`, five to nine times as fast as `rgb[::step, ::step]`.
    whole = rgb[: rows * step, : columns * step]
    sparse = cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_NEAREST) if step > 1 else rgb
    return cv2.resize(sparse, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _features(
    rgb: _Pixels, thumbnail: _Pixels, grey: npt.NDArray[np.integer[Any] | np.floating[Any]]
) -> dict[str, float]:
    height, width = rgb.shape[:2]
    mean, deviation = cv2.meanStdDev(grey)
    red, green, blue, _ = cv2.mean(thumbnail)
    saturation = cv2.mean(cv2.cvtColor(thumbnail, cv2.COLOR_RGB2HSV))[1]
    sharpness, noise = _texture(rgb)
    values = (
        mean[0, 0] / 255,
        deviation[0, 0] / 255,
        sharpness,
        noise,
        saturation / 255,
        red / 255,
        green / 255,
        blue / 255,
        _entropy(grey),
        width,
        height,
        width / height,
    )
    return dict(zip(FEATURE_NAMES, map(float, values), strict=True))


def _texture(rgb: _Pixels) -> tuple[float, float]:
    """Return sharpness and noise of the middle."""
    height, width = rgb.shape[:2]
    top, left = max(0, (height - _PATCH) // 2), max(0, (width - _PATCH) // 2)
    grey = cv2.cvtColor(rgb[top : top + _PATCH, left : left + _PATCH], cv2.COLOR_RGB2GRAY)
    # In integers and one pass each, because floats took four fifths of the time of all features.
    slopes = (grey[:, 1:], grey[:, :-1]), (grey[1:], grey[:-1])
    energy = sum(cv2.norm(here, there, cv2.NORM_L2SQR) / here.size for here, there in slopes if here.size)
    noise = 0.0
    if min(grey.shape) >= 3:
        second = cv2.sepFilter2D(grey, cv2.CV_16S, _SECOND_DIFFERENCE, _SECOND_DIFFERENCE)[1:-1, 1:-1]
        noise = float(np.sqrt(np.pi / 2)) / 6 * cv2.norm(second, cv2.NORM_L1) / second.size
    return float(np.sqrt(energy)) / 255, noise / 255


def _entropy(grey: npt.NDArray[np.integer[Any] | np.floating[Any]]) -> float:
    counts = cv2.calcHist([grey], [0], None, [_GREY_LEVELS], [0, 256]).astype(np.float64)
    shares = counts[counts > 0] / grey.size
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def _descriptor(thumbnail: _Pixels, grey: npt.NDArray[np.integer[Any] | np.floating[Any]]) -> npt.NDArray[np.float32]:
    colours = cv2.resize(thumbnail, (_GRID, _GRID), interpolation=cv2.INTER_AREA).astype(np.float32).ravel() / 255
    across, down = (cv2.Sobel(grey, cv2.CV_32F, *order, ksize=3) for order in ((1, 0), (0, 1)))
    length, angle = cv2.cartToPolar(across, down)
    turn = (angle * (_DIRECTIONS / (2 * np.pi))).astype(np.intp) % _DIRECTIONS
    shares = np.bincount(turn.ravel(), weights=length.ravel(), minlength=_DIRECTIONS)
    total = shares.sum()
    directions = (shares / total if total else shares).astype(np.float32)
    return np.concatenate([colours, directions])
