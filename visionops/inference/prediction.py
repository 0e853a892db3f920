"""What a model says of one image."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Prediction"]


@dataclasses.dataclass(frozen=True, slots=True)
class Prediction:
    """The detections of one image, best first."""

    width: int
    """Pixels of the original image after EXIF rotation."""
    height: int
    boxes: npt.NDArray[np.float32]
    """float32 (N, 4), xyxy, pixels of the original image after EXIF rotation."""
    scores: npt.NDArray[np.float32]
    """float32 (N,), 0 to 1, descending."""
    class_ids: npt.NDArray[np.int32]
    """int32 (N,), index into the bundle's classes."""
    class_names: tuple[str, ...]
    """All classes of the bundle, in its order."""

    def to_dicts(self) -> list[dict[str, Any]]:
        """Detections as plain values, as `/predict` and the pyfunc return them."""
        return [
            {
                "class_id": int(c),
                "class_name": self.class_names[c],
                "confidence": round(float(s), 6),
                "box": [round(float(v), 3) for v in b],
            }
            for c, s, b in zip(self.class_ids, self.scores, self.boxes, strict=True)
        ]
