"""Decoders turn the graph's outputs into a `Prediction`; base for every task."""

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
"""All outputs of the graph for one view, in the graph's order."""

_AnswerT_co = TypeVar("_AnswerT_co", bound=Prediction, covariant=True)


@dataclasses.dataclass(frozen=True, slots=True)
class RawOutput:
    """Output of the graph for one view: a whole image, or one of its tiles."""

    outputs: Outputs
    """float32, with the meaning given by the card's `decode`."""
    geometry: Geometry


class Decoder(Protocol[_AnswerT_co]):
    """Decoder of the graph's outputs into an answer. Holds no state of an image."""

    @property
    def everything(self) -> Mapping[str, float]:
        """Return the options under which nothing is left out of an answer."""

    def contradiction(self, outputs: Outputs) -> str:
        """Return what the card expects where the outputs contradict it; "" where they fit."""

    def decode(self, views: Sequence[RawOutput], options: Mapping[str, float]) -> _AnswerT_co:
        """Return the answer for one image.

        Args:
            views: Outputs for the whole image, or for every tile of it.
            options: Options of this request.

        Raises:
            OptionError: This task does not have the option.
        """


def decoder_for(card: BundleCard, thresholds: Thresholds) -> Decoder[Prediction]:
    """Return the decoder for a card, by its task.

    Args:
        thresholds: Thresholds of this process, where the task has any.
    """
    return served_task(card.task).decoder(card, thresholds)
