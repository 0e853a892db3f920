"""Decode a classifier's graph outputs into the answer of every head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from visionops.errors import OptionError
from visionops.inference.bundle import BundleCard, Head
from visionops.inference.decoders import Outputs, RawOutput
from visionops.tasks.classification.prediction import Answer, LabelPrediction

__all__ = ["LabelDecoder", "softmax", "split_heads"]


class LabelDecoder:
    """Decode one class, or one class for each attribute, from a classifier's outputs.

    Args:
        is_single: Whether there is a single question, whose answer has no name.
    """

    everything: Mapping[str, float] = MappingProxyType({})

    def __init__(self, card: BundleCard, *, is_single: bool) -> None:
        self._heads = card.heads
        self._is_single = is_single

    def contradiction(self, outputs: Outputs) -> str:
        """See `Decoder`."""
        wanted = (1, sum(len(head.class_names) for head in self._heads))
        return "" if outputs[0].shape == wanted else str(wanted)

    def decode(self, views: Sequence[RawOutput], options: Mapping[str, float]) -> LabelPrediction:
        """Return the answer of every head for the only view.

        Raises:
            OptionError: An option is given: thresholds of labels are chosen in training and stored in the bundle.
        """
        if options:
            raise OptionError(
                f"{min(options)}: a model of labels takes its thresholds from its card; remove the option"
            )
        (view,) = views
        outputs, geometry = view.outputs, view.geometry
        logits = split_heads(self._heads, outputs[0][0])
        answers = tuple(
            Answer(head, softmax(part / head.temperature)) for head, part in zip(self._heads, logits, strict=True)
        )
        embedding = outputs[1][0] if len(outputs) > 1 else np.empty(0, dtype=np.float32)
        return LabelPrediction(geometry.width, geometry.height, answers, self._is_single, embedding)


def split_heads(heads: Sequence[Head], logits: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    """Return the logits of each head.

    Args:
        logits: float32 (…, classes of all heads), as `Decode.LOGITS` says.
    """
    return np.split(logits, np.cumsum([len(head.class_names) for head in heads])[:-1], axis=-1)


def softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Return the softmax over the last axis; float32 of the same shape."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), dtype=np.float32)
