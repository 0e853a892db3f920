"""Register a data set's images and their splits with a review, so that new images are compared with them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from visionops.data.dataset import ADDED, Dataset
from visionops.data.history import SplitHistory
from visionops.data.shards import StoredDataset
from visionops.review.items import UseCase
from visionops.review.likeness import SPLITS, SeenImage
from visionops.review.service import Review

__all__ = ["Indexed", "index_prepared", "seen_images"]

_Seen = list[tuple[SeenImage, Path | None]]


@dataclasses.dataclass(frozen=True, slots=True)
class Indexed:
    """Result of indexing the images of a data set."""

    images: int
    """Images in train, val and test, without those that only earlier versions had."""
    changed: int
    """Images that are new or in another split, including earlier versions."""
    refused: tuple[str, ...]
    """A line for each image that cannot be read."""
    checked: int
    """Items that were compared with the data set again."""
    held_out: int
    """Decided items that are kept out of training."""

    def explain(self) -> str:
        """Return a one-sentence summary."""
        said = f"{self.images} images of the data set known to the review, {self.changed} new or in another split"
        if self.refused:
            said += f", {len(self.refused)} cannot be read"
        return f"{said}; {self.checked} items compared with them, {self.held_out} decided ones kept out of training"


def seen_images(prepared: Dataset, history: SplitHistory) -> _Seen:
    """Return the images of a data set with their files, and the images of earlier versions without files.

    Images that came from a review have no files either, because the review has them.

    Args:
        prepared: Clean and split, with ``sha256``.
        history: Splits that earlier versions assigned.
    """
    columns = (prepared.column(name) for name in ("sha256", "split", "key", "path"))
    images: _Seen = [
        (SeenImage(sha256, split, key), Path(path) if path else None)
        for sha256, split, key, path in zip(*columns, strict=True)
        if split in SPLITS and not key.startswith(ADDED)
    ]
    present = {seen.sha256 for seen, _ in images}
    rows = ((row["sha256"].hex(), row["split"]) for row in history.rows.select(["sha256", "split"]).to_pylist())
    gone = [(SeenImage(digest, split, ""), None) for digest, split in rows if split in SPLITS and digest not in present]
    return images + gone


def index_prepared(review: Review, use_case: UseCase, prepared: StoredDataset, splits: SplitHistory) -> Indexed:
    """Register the images of a training's data set. Only images that the review does not know are fetched.

    Args:
        use_case: Use case; added to the review where it is missing.
        splits: Split history including this data set.

    Raises:
        ReviewError: The database or the images cannot be reached, or its labels cannot be reviewed.
        DataError: An image cannot be fetched.
    """
    similar = review.similar
    assert similar is not None
    if use_case.name not in {known.name for known in review.store.use_cases()}:
        review.put_use_case(use_case)
    tables = prepared.tables
    unknown = similar.unknown(use_case.name, tables.column("sha256"))
    named = zip(tables.column("sha256"), tables.column("split"), tables.column("key"), strict=True)
    rows = [
        row
        for row, (digest, split, key) in enumerate(named)
        if digest in unknown and split in SPLITS and not key.startswith(ADDED)
    ]
    paths = [""] * tables.num_images
    for row, path in zip(rows, prepared.fetch(tables.take(rows)).column("path"), strict=True):
        paths[row] = path
    images = seen_images(tables.replace_column("path", paths), splits)
    changed, refused = similar.index(use_case.name, images)
    checked = similar.recheck(use_case.name)
    own = sum(seen.name != "" for seen, _ in images)
    return Indexed(own, changed, tuple(refused), checked, review.store.stats(use_case.name).held_out)
