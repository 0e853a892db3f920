"""Protocol of a model's prediction for one image, for every task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Prediction"]


class Prediction(Protocol):
    """Prediction of any task, with all that serving, batch inference and monitoring use of it."""

    @property
    def width(self) -> int:
        """Return the width of the original image in pixels after EXIF rotation."""

    @property
    def height(self) -> int:
        """Return the height of the original image in pixels after EXIF rotation."""

    def to_dict(self) -> dict[str, Any]:
        """Return the task's part of an answer as plain values: the fields of the task's `answer`."""

    def labels(self) -> list[tuple[str, float]]:
        """Return every predicted class, named as in the card, with its confidence."""

    def record(self) -> dict[str, float | list[float]]:
        """Return the task's own columns of the prediction log, without columns that have no values."""

    @property
    def embedding(self) -> npt.NDArray[np.float32]:
        """Return the model's features of the image, float32 (D,); (0,) where it has none."""

    def problem(self) -> str:
        """Return what makes the answer invalid (numbers that are not finite, ids out of range); "" for a valid one."""

    def support(self, other: Prediction) -> float:
        """Return how strongly ``other``, for a changed image, supports this prediction: 0 to 1 (for saliency)."""

    def agreement(self, other: Prediction) -> float:
        """Return how far ``other``, another model's prediction for the same image, agrees: 0 to 1."""
