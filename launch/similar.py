"""Implement `visionops review index` and `visionops review similar`, and describe similarities."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

# Imported late, so that `visionops --help` does not wait for SQLAlchemy and image libraries.
if TYPE_CHECKING:
    from visionops.config import Config
    from visionops.data.dataset import Dataset
    from visionops.data.history import SplitHistory
    from visionops.review.likeness import Likeness, Neighbour
    from visionops.review.service import Review

__all__ = ["describe_likeness", "index_images", "print_similar"]

_MOST_REFUSALS = 10


def index_images(review: Review, use_case: Config, dataset: Dataset, *, with_history: bool) -> None:
    """Index the images of a data set with the splits that a training gives them, and check the items again.

    Args:
        dataset: Data set as it was read.
        with_history: Also use the splits stored with earlier versions of the model.
    """
    from visionops.data.history import SplitHistory
    from visionops.review.indexing import seen_images

    assert review.similar is not None
    history = _history(use_case) if with_history else SplitHistory.empty()
    images = seen_images(_dealt(use_case, dataset, history), history)
    changed, refused = review.similar.index(use_case.name, images)
    for line in refused[:_MOST_REFUSALS]:
        typer.echo(f"refused   {line}")
    if len(refused) > _MOST_REFUSALS:
        typer.echo(f"refused   {len(refused) - _MOST_REFUSALS} more")
    splits = [seen.split for seen, _ in images if seen.name]
    counts = ", ".join(f"{splits.count(split)} {split}" for split in ("train", "val", "test"))
    typer.echo(f"images    {len(splits)} of the data set ({counts}), {changed} new or in another split")
    checked, held_out = review.similar.recheck(use_case.name), review.store.stats(use_case.name).held_out
    typer.echo(f"items     {checked} compared with them; {held_out} decided ones are kept out of training")


def _history(use_case: Config) -> SplitHistory:
    from steps.context import active_registry
    from visionops.lineage import recall_splits

    history, silent = recall_splits(active_registry(), use_case.name)
    for version in silent:
        typer.echo(f"version {version} has no stored split, so its images are split again")
    return history


def _dealt(use_case: Config, dataset: Dataset, history: SplitHistory) -> Dataset:
    """Return the labelled images, checked, cleaned and split as the pipeline does."""
    from visionops.data.cleaning import clean
    from visionops.data.hashing import hash_images
    from visionops.data.splitting.assignment import assign_splits
    from visionops.data.validation.judging import validate

    hashed = hash_images(dataset)
    report = validate(hashed, use_case.validation)
    report.raise_if_stopped()
    distance = use_case.validation.near_duplicate_distance
    return assign_splits(clean(hashed, report), use_case.data.split, history, distance=distance)


def describe_likeness(likeness: Likeness, *, is_held_out: bool) -> str:
    """Return the similarity of an item in one line."""
    parts = ["nothing to compare with"]
    if likeness.distance is not None:
        near = "near" if likeness.is_near else "not near"
        parts = [f"distance {likeness.distance:.4f} ({near}) to {likeness.name or likeness.nearest}"]
    if likeness.seen_in:
        parts.append(f"seen in {likeness.seen_in}")
    if is_held_out:
        parts.append("kept out of training")
    return "; ".join(parts)


def print_similar(review: Review, use_case: str, image: Path, limit: int) -> None:
    """Print the images that are most similar to an image, one per line.

    Raises:
        DataError: The file cannot be read.
        ImageError: The file is not a usable image.
        NotFound: The use case is unknown.
    """
    from visionops.data.files import describe_os_error
    from visionops.errors import DataError

    assert review.similar is not None
    review.store.use_case(use_case)
    try:
        data = image.read_bytes()
    except OSError as error:
        raise DataError(f"{image}: cannot be read ({describe_os_error(error)})") from error
    found = review.similar.find(use_case, data, limit)
    if not found:
        typer.echo("no images are indexed yet; add some with `visionops review import` or `visionops review index`")
        return
    typer.echo(f"{'distance':<8}  {'near':<4}  {'state':<8}  {'split':<5}  name")
    for neighbour in found:
        typer.echo(_line(neighbour))


def _line(neighbour: Neighbour) -> str:
    from visionops.errors import one_line

    known = neighbour.known
    state, near = known.state.value if known.state else "-", "yes" if neighbour.is_near else "no"
    name = one_line(known.name or known.item or known.sha256[:32])
    shown = name if len(name) <= 44 else f"…{name[-43:]}"
    return f"{neighbour.distance:<8.4f}  {near:<4}  {state:<8}  {known.split or '-':<5}  {shown}"
