"""Find and remove leftovers of crashes: images that no item refers to, and drafts of images.

An image is announced in the database before it is stored, and registered there when it is durable. An image without
either was left by an intake that died, or by a database that was restored from an earlier backup. Both are removed only
when they are older than ``grace``, each inside a transaction that blocks an intake of the same image.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from datetime import datetime, timedelta

from visionops.review.checks import in_utc
from visionops.review.ports import ImageStore, ReviewStore

__all__ = ["GRACE", "SweepResult", "sweep"]

GRACE = timedelta(hours=24)
"""Age below which images are kept, because their intake may still be under way."""
_BATCH = 500


@dataclasses.dataclass(frozen=True, slots=True)
class SweepResult:
    """Result of a sweep."""

    images: int
    """Number of images examined."""
    orphans: tuple[str, ...]
    """SHA-256 of old images that no item refers to."""
    removed: int
    """Number of these images that were removed; 0 in a dry run."""
    drafts: int
    """Number of unfinished files that were removed."""


def sweep(
    store: ReviewStore, images: ImageStore, now: datetime, *, grace: timedelta = GRACE, dry_run: bool = False
) -> SweepResult:
    """Remove orphans that are older than ``grace``.

    Args:
        now: Aware.
        dry_run: Report orphans without removing them.

    Raises:
        Unavailable: The database or the images cannot be reached.
    """
    before = in_utc(now) - grace
    looked, orphans = 0, []
    for batch in _batches(images):
        looked += len(batch)
        old = [sha256 for sha256, put in batch if put < before]
        orphans += sorted(store.missing(old)) if old else []
    # An intake that died before it stored its image left only its announcement.
    gone = [sha256 for sha256 in store.unfinished(before) if sha256 not in orphans]
    if dry_run:
        return SweepResult(looked, tuple(orphans), 0, 0)
    removed = sum(store.forget(sha256, before, functools.partial(images.remove, sha256)) for sha256 in orphans)
    for sha256 in gone:
        store.forget(sha256, before, functools.partial(images.remove, sha256))
    return SweepResult(looked, tuple(orphans), removed, images.tidy(before))


def _batches(images: ImageStore) -> Iterator[list[tuple[str, datetime]]]:
    found = images.digests()
    while batch := list(itertools.islice(found, _BATCH)):
        yield batch
