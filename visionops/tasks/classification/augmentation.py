"""Augment training images at random, on the canvases that the preprocessing made."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from visionops.tasks.classification.settings import Augmentation

__all__ = ["augment"]


def augment(
    canvases: npt.NDArray[np.uint8], settings: Augmentation, random: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Return each image with its own random changes.

    Areas uncovered by a rotation, a shift or shrinking are filled with the mirrored border.

    Args:
        canvases: uint8 (N, S, S, 3), RGB; not modified.
        random: Generator; the same numbers are drawn for all settings, so that each setting acts independently.

    Returns:
        uint8 (N, S, S, 3).
    """
    count, height, width, _ = canvases.shape
    drawn = random.random((count, 8))
    signed = drawn * 2 - 1
    changed = canvases.copy()
    flipped = drawn[:, 0] < settings.fliplr
    changed[flipped] = changed[flipped, :, ::-1]
    flipped = drawn[:, 1] < settings.flipud
    changed[flipped] = changed[flipped, ::-1]
    angles = signed[:, 2] * settings.degrees
    # Shrink by as much as enlarge: from 1 / (1 + scale) to 1 + scale.
    gains = np.exp(signed[:, 3] * np.log1p(settings.scale))
    shifts = signed[:, 4:6] * settings.translate * (width, height)
    if settings.degrees or settings.scale or settings.translate:
        for i in range(count):
            matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), float(angles[i]), float(gains[i]))
            matrix[:, 2] += shifts[i]
            cv2.warpAffine(changed[i].copy(), matrix, (width, height), changed[i], borderMode=cv2.BORDER_REFLECT_101)
    if settings.brightness or settings.contrast:
        gain = 1 + signed[:, 6] * settings.contrast
        offset = 127.5 * (1 - gain) + 255 * signed[:, 7] * settings.brightness
        for i in range(count):
            values = np.arange(256) * gain[i] + offset[i]
            cv2.LUT(changed[i].copy(), values.round().clip(0, 255).astype(np.uint8), changed[i])
    return changed
