"""Order the pending items by the current champion's predictions."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import numpy as np

from visionops.errors import BundleError
from visionops.monitoring.reference import REFERENCE_FILE, read_reference
from visionops.review.checks import in_utc
from visionops.review.errors import Invalid
from visionops.review.items import RANDOM, QueuePlace, Reason, ReviewItem
from visionops.review.looking import ItemPrediction, Model, predict_items
from visionops.review.ports import ItemFilter, Prioritized, Write
from visionops.review.selection.ordering import KINDS, Ordered, SelectionContext, order_queue
from visionops.review.service import Review
from visionops.review.settings import ReviewConfig
from visionops.review.states import Actor, State

__all__ = ["CHOSEN", "MOST_KNOWN", "Outcome", "prioritize"]

CHOSEN = frozenset({"feedback", "label_error", "second_opinion"})
"""Reasons of images that arrived because of their content: these are never drawn into the random share."""
MOST_KNOWN = 1000
"""Number of newest claimed or decided items that the next ones should differ from."""
_PAGE = 1000
_SMALLEST = 5e-7


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Result of ordering the queue."""

    stored: Prioritized
    random: int
    """Pending items of the random share."""
    problems: tuple[str, ...]
    """A line for each image that the model cannot use."""


def prioritize(
    review: Review,
    use_case: str,
    model: Model,
    config: ReviewConfig,
    actor: Actor,
    *,
    key: str,
    now: datetime,
    shadow: Model | None = None,
    progress: Callable[[int], object] = lambda _done: None,
) -> Outcome:
    """Update reasons, priority and prediction of every pending item of a use case.

    Reasons from other sources, such as ``feedback``, stay. Items that are claimed meanwhile stay unchanged.

    Args:
        model: The champion.
        shadow: Another model, whose disagreement is a reason.
        now: Aware.
        progress: Called with the number of images looked at.

    Raises:
        NotFound: The use case is unknown.
        Invalid: A model has another task than the use case.
        Unavailable: The database or the images cannot be reached.
    """
    task = review.store.use_case(use_case).task
    for one in (model, shadow):
        if one is not None and one.bundle.card.task != task:
            raise Invalid(f"{one.name} version {one.version}: is of task {one.bundle.card.task}, {use_case} of {task}")
    pending = list(_items(review, use_case, (State.PENDING,)))
    shadow = shadow if config.selection.disagreement else None
    looks = predict_items(pending, review.images, model, shadow, progress)
    ordered = order_queue(
        [look.candidate for look in looks],
        _known(review, use_case, model, config),
        config,
        drawn=frozenset(item.id for item in pending if _kinds(item) & {RANDOM}),
        closed=frozenset(item.id for item in pending if _kinds(item) & CHOSEN),
    )
    placed = _placed(pending, looks, ordered)
    write = Write.of(key, actor, in_utc(now), "prioritize", use_case, [dataclasses.asdict(one) for one in placed])
    return Outcome(
        review.store.prioritize(use_case, placed, write),
        sum(any(reason.kind == RANDOM for reason in one.reasons) for one in placed),
        tuple(look.problem for look in looks if look.problem),
    )


def _items(review: Review, use_case: str, states: tuple[State, ...], most: int | None = None) -> Iterator[ReviewItem]:
    """Yield items, newest first."""
    after, count = None, 0
    while most is None or count < most:
        limit = _PAGE if most is None else min(_PAGE, most - count)
        page = review.store.items(ItemFilter(use_case, states, limit=limit, after=after))
        yield from page
        count += len(page)
        if len(page) < limit:
            return
        after = page[-1].id


def _known(review: Review, use_case: str, model: Model, config: ReviewConfig) -> SelectionContext:
    """Return the known facts beside the queue, as far as a weight needs them."""
    weights, known = config.selection, SelectionContext()
    counts: collections.Counter[str] = collections.Counter()
    if (weights.novelty or weights.rare) and REFERENCE_FILE in model.bundle.card.files:
        try:
            table = read_reference(model.bundle)
        except OSError as error:
            raise BundleError(f"{model.bundle.folder}: its {REFERENCE_FILE} cannot be read ({error})") from error
        rows = [np.asarray(row, dtype=np.float32) for row in table["embedding"].to_pylist() if row]
        if rows and len({row.shape for row in rows}) == 1:
            known = dataclasses.replace(known, reference=np.stack(rows))
        counts.update(name for labels in table["labels"].to_pylist() for name in labels or ())
    if weights.diversity or weights.rare:
        seen = list(_items(review, use_case, (State.CLAIMED, State.DECIDED, State.EXPORTED), MOST_KNOWN))
        if weights.rare:
            for item in seen:
                for decision in review.store.decisions(item.id)[-1:]:
                    counts.update(_names(decision.label or {}))
        if weights.diversity:
            looks = predict_items(seen, review.images, model)
            embeddings = [look.candidate.embedding for look in looks if look.candidate.embedding.size]
            if embeddings:
                known = dataclasses.replace(known, labelled=np.stack(embeddings))
    return dataclasses.replace(known, counts=counts)


def _names(label: Mapping[str, Any]) -> list[str]:
    """Return the classes of a label of a built-in task, in the form of `Prediction.labels`."""
    if "attributes" in label:
        return [f"{name}={value}" for name, value in label["attributes"].items() if value is not None]
    if "boxes" in label:
        return [box["class_name"] for box in label["boxes"]]
    return [label["class_name"]] if "class_name" in label else []


def _kinds(item: ReviewItem) -> set[str]:
    return {reason.kind for reason in item.reasons}


def _placed(items: list[ReviewItem], looks: list[ItemPrediction], ordered: list[Ordered]) -> list[QueuePlace]:
    reasons = {one.id: one.reasons for one in ordered}
    placed = []
    for item, look in zip(items, looks, strict=True):
        kept = [reason for reason in item.reasons if reason.kind not in KINDS | {RANDOM}]
        # Rounded to six places, so that computing the same order again changes nothing.
        new = [dataclasses.replace(reason, value=round(reason.value, 6)) for reason in reasons[item.id]]
        placed.append(QueuePlace(item.id, (*kept, *(r for r in new if _counts(r))), look.predicted))
    return placed


def _counts(reason: Reason) -> bool:
    return reason.kind == RANDOM or abs(reason.value) > _SMALLEST
