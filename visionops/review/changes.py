"""Compare two data versions of a review: labels added and replaced, by class and by reviewer."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping

from visionops.review.errors import Invalid
from visionops.review.findings import findings_in
from visionops.review.items import Decision, ReviewItem
from visionops.review.ports import ReviewStore

__all__ = ["ChangedLabel", "VersionChanges", "compare_versions"]


@dataclasses.dataclass(frozen=True, slots=True)
class ChangedLabel:
    """An image whose label changed."""

    item: ReviewItem
    before: Decision
    after: Decision


@dataclasses.dataclass(frozen=True, slots=True)
class VersionChanges:
    """Changes from one data version to a later one; each includes all versions before it."""

    images: tuple[int, int]
    """Number of labelled images before and after."""
    classes: Mapping[str, tuple[int, int]]
    """Number of images that have a class, before and after; sorted by name."""
    added: tuple[ReviewItem, ...]
    changed: tuple[ChangedLabel, ...]
    reviewers: Mapping[str, int]
    """Number of new and changed labels by reviewer, most first."""


def compare_versions(store: ReviewStore, use_case: str, before: int, after: int) -> VersionChanges:
    """Compare two data versions of a use case.

    Args:
        before: Number of the earlier one; 0 means no labels.

    Raises:
        Invalid: They are in the wrong order.
        NotFound: The use case is unknown.
    """
    if not 0 <= before < after:
        raise Invalid(f"versions: {before} is not before {after}; choose an earlier one first")
    old, new = (_labels(store, use_case, number) for number in (before, after))
    added = [pair for key, pair in new.items() if key not in old]
    changed = [
        ChangedLabel(item, old[key][1], decision)
        for key, (item, decision) in new.items()
        if key in old and old[key][1].id != decision.id
    ]
    counts = [
        Counter(name for _, decision in side.values() for name in findings_in(decision.label)) for side in (old, new)
    ]
    reviewers = Counter([*(decision.reviewer for _, decision in added), *(one.after.reviewer for one in changed)])
    return VersionChanges(
        images=(len(old), len(new)),
        classes={name: (counts[0][name], counts[1][name]) for name in sorted(counts[0] | counts[1])},
        added=tuple(item for item, _ in added),
        changed=tuple(changed),
        reviewers=dict(reviewers.most_common()),
    )


def _labels(store: ReviewStore, use_case: str, version: int) -> dict[str, tuple[ReviewItem, Decision]]:
    found = store.decided(use_case, version) if version else []
    return {one.item.id: (one.item, one.decision) for one in found if one.version is not None}
