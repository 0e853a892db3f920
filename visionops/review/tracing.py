"""The whole history of an image: how it came, what models said, what people decided, and which models learned it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from visionops.review.errors import NotFound
from visionops.review.outcomes import Traced
from visionops.review.ports import ReviewStore, Wanted

__all__ = ["ImageHistory", "TrainedModel", "find_items", "image_history"]

_SHA256 = re.compile("[0-9a-f]{64}")


class TrainedModel(NamedTuple):
    """A model that was trained on a review."""

    name: str
    version: str
    data_version: int
    """It learned from the data versions up to this one."""
    trained: datetime
    """Aware."""
    aliases: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class ImageHistory:
    """All that is known of an image in a use case."""

    traced: Traced
    models: tuple[tuple[TrainedModel, int], ...]
    """Models whose training data had it, each with the round of the decision that was its label then."""


def find_items(store: ReviewStore, name: str) -> list[str]:
    """Return the ids of the items of an image.

    Args:
        name: Its SHA-256, or the id of an item.

    Raises:
        NotFound: There is none.
    """
    if not _SHA256.fullmatch(name):
        return [store.item(name).id]
    found = [item.id for item in store.items(Wanted(sha256=name))]
    if not found:
        raise NotFound(f"image {name}: is in no review")
    return sorted(found)


def image_history(store: ReviewStore, item: str, models: Sequence[TrainedModel]) -> ImageHistory:
    """Return the history of an item.

    Args:
        models: All that were trained on the review of its use case.

    Raises:
        NotFound: There is none of this id.
    """
    traced = store.trace(item)
    labelled = [(model, label) for model in models if (label := _label_for(model, traced)) is not None]
    return ImageHistory(traced, tuple(labelled))


def _label_for(model: TrainedModel, traced: Traced) -> int | None:
    """Return the round of the newest label that the model's data had; None where it had none, or was rejected."""
    newest = None
    for decision, version in traced.decisions:
        if version is not None and version <= model.data_version:
            newest = decision.round
        elif not decision.verdict.has_label and decision.at <= model.trained:
            newest = None
    return newest
