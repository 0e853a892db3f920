"""From the graph's outputs to a `Prediction`: what the decoder of every task does."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from visionops.inference.bundle import BundleCard, Thresholds
from visionops.inference.prediction import Prediction
from visionops.inference.preprocessing import Geometry
from visionops.inference.task_registry import served_task

__all__ = ["Decoder", "Outputs", "RawOutput", "decoder_for"]

Outputs = Sequence[npt.NDArray[np.float32]]
"""All outputs of the graph for one view, in its order."""

_AnswerT_co = TypeVar("_AnswerT_co", bound=Prediction, covariant=True)


@dataclasses.dataclass(frozen=True, slots=True)
class RawOutput:
    """What the graph said of one view: a whole image, or one of its tiles."""

    outputs: Outputs
    """float32, as the card's `decode` says."""
    geometry: Geometry


class Decoder(Protocol[_AnswerT_co]):
    """Makes an answer of what the graph says. Holds no state of an image."""

    @property
    def everything(self) -> Mapping[str, float]:
        """The options under which nothing is left out of an answer."""

    def contradiction(self, outputs: Outputs) -> str:
        """How the outputs contradict the card: what is wanted; "" when they fit."""

    def decode(self, views: Sequence[RawOutput], options: Mapping[str, float]) -> _AnswerT_co:
        """The answer for one image.

        Args:
            views: The whole image, or every tile of it.
            options: What this request alone wants otherwise.

        Raises:
            OptionError: This task knows no such option.
        """


def decoder_for(card: BundleCard, thresholds: Thresholds) -> Decoder[Prediction]:
    """Return the decoder of a card, by its task.

    Args:
        thresholds: Of this process, where the task has any.
    """
    return served_task(card.task).decoder(card, thresholds)
