"""Collect the full history of an image: its arrivals, predictions and decisions, and the models trained on it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from visionops.review.errors import NotFound
from visionops.review.outcomes import ItemTrace
from visionops.review.ports import ItemFilter, ReviewStore

__all__ = ["ImageHistory", "TrainedModel", "find_items", "image_history"]

_SHA256 = re.compile("[0-9a-f]{64}")


class TrainedModel(NamedTuple):
    """A model that was trained on a review."""

    name: str
    version: str
    data_version: int
    """Last data version that it was trained on."""
    trained: datetime
    """Aware."""
    aliases: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class ImageHistory:
    """Full history of an image in a use case."""

    traced: ItemTrace
    models: tuple[tuple[TrainedModel, int], ...]
    """Models whose training data included it, each with the round of the decision that was its label then."""


def find_items(store: ReviewStore, name: str) -> list[str]:
    """Return the ids of all items of an image.

    Args:
        name: Its SHA-256, or the id of an item.

    Raises:
        NotFound: No item has this image or id.
    """
    if not _SHA256.fullmatch(name):
        return [store.item(name).id]
    found = [item.id for item in store.items(ItemFilter(sha256=name))]
    if not found:
        raise NotFound(f"image {name}: is not in any review")
    return sorted(found)


def image_history(store: ReviewStore, item: str, models: Sequence[TrainedModel]) -> ImageHistory:
    """Return the history of an item.

    Args:
        models: All models that were trained on the review of its use case.

    Raises:
        NotFound: No item has this id.
    """
    traced = store.trace(item)
    labelled = [(model, label) for model in models if (label := _label_for(model, traced)) is not None]
    return ImageHistory(traced, tuple(labelled))


def _label_for(model: TrainedModel, traced: ItemTrace) -> int | None:
    """Return the round of the newest label in the model's data; None where there was none, or it was rejected."""
    newest = None
    for decision, version in traced.decisions:
        if version is not None and version <= model.data_version:
            newest = decision.round
        elif not decision.verdict.has_label and decision.at <= model.trained:
            newest = None
    return newest
