"""What a model says of one image, whatever its task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Prediction"]


class Prediction(Protocol):
    """What every task's answer can do: all that serving, batch and monitoring know of it."""

    @property
    def width(self) -> int:
        """Pixels of the original image after EXIF rotation."""

    @property
    def height(self) -> int:
        """Pixels of the original image after EXIF rotation."""

    def to_dict(self) -> dict[str, Any]:
        """The task's part of an answer, plain values: the fields of the task's `answer`."""

    def labels(self) -> list[tuple[str, float]]:
        """Every class answered, as the card names it, with its confidence: what is counted."""

    def record(self) -> dict[str, float | list[float]]:
        """The columns that the task adds to the prediction log; without its lists that have no values."""

    @property
    def embedding(self) -> npt.NDArray[np.float32]:
        """The model's own features of the image, float32 (D,); (0,) where it gives none."""

    def problem(self) -> str:
        """What makes this no answer (numbers that are not finite, ids out of range); "" when nothing does."""

    def support(self, other: Prediction) -> float:
        """How strongly ``other``, of a changed image, still says what this one says: 0 to 1 (for saliency)."""

    def agreement(self, other: Prediction) -> float:
        """How far ``other``, another model's answer to the same image, is the same answer: 0 to 1."""
