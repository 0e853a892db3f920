"""Simulate changes of an inspection line: light, sensor, lens, camera, or the mix of classes.

Severity 0 changes nothing and 1 is strong. In between and beyond, a severity of ``s`` means:

    brightness   every value times 0.5 ** s: 1 is half the light, -1 twice the light
    noise        Gaussian, standard deviation of 25 s grey levels, the same in all channels
    blur         Gaussian, standard deviation of 3 s pixels
    camera       another camera: red x 1.15 ** s and blue / 1.15 ** s, gamma 1.25 ** s, 0.6 ** s of the light in the
                 corners, details of 2 ** s pixels, noise of 4 s grey levels in each channel
    mixed        on each image one or more of these four, drawn at random
    class-shift  no pixels: more images of the rarest class, whose share of the images grows by s / 2

>>> darker = modify(rgb, Kind.BRIGHTNESS, 1.0, np.random.default_rng(0))
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from visionops.errors import ConfigError, DataError

__all__ = [
    "MAX_SEVERITY",
    "ClassShift",
    "Kind",
    "class_shift",
    "describe_change",
    "draw_images",
    "modify",
    "require_severity",
]

MAX_SEVERITY: Final = 10.0
_NOISE, _BLUR, _SHARE = 25.0, 3.0, 0.5
_GAIN, _GAMMA, _CORNERS, _CAMERA_NOISE = 1.15, 1.25, 0.6, 4.0

_Pixels = npt.NDArray[np.uint8]


class Kind(enum.StrEnum):
    """Kind of change."""

    BRIGHTNESS = "brightness"
    NOISE = "noise"
    BLUR = "blur"
    MIXED = "mixed"
    CLASS_SHIFT = "class-shift"
    CAMERA = "camera"


class ClassShift(NamedTuple):
    """Class whose images become more frequent."""

    class_id: int
    before: float
    """Share of the class in the images."""
    after: float


def require_severity(kind: Kind, severity: float) -> None:
    """Refuse an invalid severity.

    Raises:
        ConfigError: It is not a number, above `MAX_SEVERITY`, or below 0 where the kind does not allow that.
    """
    least = -MAX_SEVERITY if kind is Kind.BRIGHTNESS else 0.0
    if not least <= severity <= MAX_SEVERITY:  # NaN fails this check, too
        raise ConfigError(f"--severity {severity:g}: {kind} takes {least:g} to {MAX_SEVERITY:g}; 1 is already strong")


def describe_change(kind: Kind, severity: float) -> str:
    """Describe the change in the unit of the kind: "brightness 1, light x 0.5"."""
    units = {
        Kind.BRIGHTNESS: f"light x {0.5**severity:.3g}",
        Kind.NOISE: f"standard deviation {_NOISE * severity:.3g} grey levels",
        Kind.BLUR: f"standard deviation {_BLUR * severity:.3g} pixels",
        Kind.MIXED: "each image by one or more kinds",
        Kind.CLASS_SHIFT: f"the rarest class on {100 * _SHARE * severity:.3g} % more of the images",
        Kind.CAMERA: "other colours, gamma, vignette, detail and noise",
    }
    return f"{kind} {severity:g}, {units[kind] if severity else 'nothing changed'}"


def modify(rgb: _Pixels, kind: Kind, severity: float, rng: np.random.Generator) -> _Pixels:
    """Return the image after the change; ``rgb`` itself where no pixel changes.

    Args:
        rgb: uint8 (H, W, 3), at least one pixel.
        severity: 0 to `MAX_SEVERITY`, for brightness also below 0; see the module.
        rng: Generator of noise and of mixed changes.

    Returns:
        uint8 (H, W, 3), of the same size.

    Raises:
        ConfigError: The severity is not valid.
    """
    require_severity(kind, severity)
    if severity == 0 or kind is Kind.CLASS_SHIFT:
        return rgb
    if kind is not Kind.MIXED:
        return _CHANGES[kind](rgb, severity, rng)
    drawn = rng.permutation(len(_CHANGES))[: rng.integers(1, len(_CHANGES) + 1)]
    for position in sorted(drawn):
        rgb = list(_CHANGES.values())[position](rgb, severity, rng)
    return rgb


def _change_light(rgb: _Pixels, severity: float, _: np.random.Generator) -> _Pixels:
    return np.asarray(_levels(np.arange(256) * 0.5**severity)[rgb])


def _blur(rgb: _Pixels, severity: float, _: np.random.Generator) -> _Pixels:
    # Pillow's blur keeps a variance below one pixel; OpenCV's sampled kernel would round it to nothing.
    return np.asarray(Image.fromarray(rgb).filter(ImageFilter.GaussianBlur(_BLUR * severity)))


def _add_noise(rgb: _Pixels, severity: float, rng: np.random.Generator) -> _Pixels:
    # One channel for all, because coloured noise on grey images would be too easy to detect.
    noise = rng.standard_normal((*rgb.shape[:2], 1), dtype=np.float32)
    return _levels(rgb + noise * np.float32(_NOISE * severity))


def _change_camera(rgb: _Pixels, severity: float, rng: np.random.Generator) -> _Pixels:
    height, width = rgb.shape[:2]
    coarse = tuple(max(1, round(side * 0.5**severity)) for side in (width, height))
    small = cv2.resize(rgb, coarse, interpolation=cv2.INTER_AREA)
    seen = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    across, down = ((2 * np.arange(side, dtype=np.float32) + 1) / side - 1 for side in (width, height))
    from_centre = (across**2 + down[:, None] ** 2) / 2  # squared distance; 1 in the corners
    seen *= (np.float32(_CORNERS**severity) ** from_centre)[:, :, None]
    seen += rng.standard_normal(rgb.shape, dtype=np.float32) * np.float32(_CAMERA_NOISE * severity)
    seen *= np.array([_GAIN**severity, 1, _GAIN**-severity], dtype=np.float32)
    return _levels((np.clip(seen, 0, 255) / 255) ** np.float32(_GAMMA**severity) * 255)


_Change = Callable[[_Pixels, float, np.random.Generator], _Pixels]
# In the order of the optical path.
_CHANGES: dict[Kind, _Change] = {
    Kind.BRIGHTNESS: _change_light,
    Kind.BLUR: _blur,
    Kind.CAMERA: _change_camera,
    Kind.NOISE: _add_noise,
}


def _levels(values: npt.NDArray[np.floating[Any]]) -> _Pixels:
    levels: _Pixels = np.clip(values, 0, 255).round().astype(np.uint8)
    return levels


def class_shift(presence: npt.NDArray[np.bool_], severity: float) -> ClassShift:
    """Return the rarest class, and the share of images that is to show it.

    Args:
        presence: Whether an image shows a class, bool (images, classes), as in `Dataset.presence`.

    Raises:
        DataError: No class is on some of the images but not on all.
    """
    shares = presence.mean(axis=0) if len(presence) else np.zeros(0)
    movable = np.flatnonzero((shares > 0) & (shares < 1))
    if not len(movable):
        raise DataError("class-shift: no class is on some of the test images and not on others; choose another --kind")
    rarest = int(movable[shares[movable].argmin()])
    before = float(shares[rarest])
    return ClassShift(rarest, before, min(1.0, before + _SHARE * severity))


def draw_images(
    presence: npt.NDArray[np.bool_], kind: Kind, severity: float, number: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return the rows of the images to send, in order; none repeats before all others of its group were used.

    Args:
        presence: See `class_shift`; at least one image.

    Returns:
        Rows of ``presence``, int64 (number,). For class-shift, a share `ClassShift.after` of them shows the class.

    Raises:
        DataError: See `class_shift`.
    """
    if kind is not Kind.CLASS_SHIFT:
        return _deal(np.arange(len(presence)), number, rng)
    shift = class_shift(presence, severity)
    shown = presence[:, shift.class_id]
    wanted = round(shift.after * number)
    parts = _deal(np.flatnonzero(shown), wanted, rng), _deal(np.flatnonzero(~shown), number - wanted, rng)
    return rng.permutation(np.concatenate(parts))


def _deal(rows: npt.NDArray[np.int64], number: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    rounds = [rng.permutation(rows) for _ in range(-(-number // len(rows)))]
    return np.concatenate([np.empty(0, np.int64), *rounds])[:number]
