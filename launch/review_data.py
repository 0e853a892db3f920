"""Bring images and labels into a review, from a terminal."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

# Imported late, so that `visionops --help` does not wait for SQLAlchemy and image libraries.
if TYPE_CHECKING:
    from visionops.config import Config
    from visionops.data.dataset import Dataset
    from visionops.review.service import Review

__all__ = ["import_folder", "index_dataset", "list_similar", "queue_label_errors", "take_server_logs"]

_MOST_REFUSALS = 10


def import_folder(folder: Path, config: Path, labels: str | None, reviewer: str | None, *, decided: bool) -> None:
    """Import a folder of images, with labels if ``labels`` names their format, and print the result.

    Raises:
        ConfigError: The format is unknown, or decisions have no labels.
        DataError: The folder is missing or has no images.
        ReviewError: The database does not answer, or refuses the use case.
    """
    from visionops.config import load_config
    from visionops.errors import ConfigError
    from visionops.review.exchange import import_images
    from visionops.review.states import Actor
    from visionops.review_store.opening import open_review

    if decided and labels is None:
        raise ConfigError("--decided: needs labels; add --labels auto")
    use_case = load_config(config)
    dataset = _read(folder, labels, use_case)
    with open_review() as review:
        _know(review, use_case)
        actor, now = Actor(reviewer or getpass.getuser()), datetime.now(UTC)
        found = import_images(review, use_case.name, dataset, actor, now, labelled=labels is not None, decided=decided)
    _print_refused(found.refused)
    typer.echo(f"images    {found.new} new, {found.known} known, {len(found.refused)} refused")
    if decided:
        typer.echo(f"decided   {found.decided}")


def take_server_logs(config: Path, log: str | None, follow: float | None) -> None:
    """Import the logs of servers; see `take_logs`.

    Raises:
        VisionOpsError: The use case, the log or the database cannot be used.
    """
    from launch.review_intake import server_logs, take_logs
    from visionops.config import load_config
    from visionops.review_store.opening import open_review

    use_case = load_config(config)
    logs = server_logs(use_case, log)
    with open_review() as review:
        _know(review, use_case)
        take_logs(review, use_case, logs, follow)


def _print_refused(lines: Sequence[str]) -> None:
    for line in lines[:_MOST_REFUSALS]:
        typer.echo(f"refused   {line}")
    if len(lines) > _MOST_REFUSALS:
        typer.echo(f"refused   {len(lines) - _MOST_REFUSALS} more")


def _read(folder: Path, labels: str | None, use_case: Config) -> Dataset:
    """Read the images of a folder, with their labels if requested."""
    from visionops.data.dataset import Dataset
    from visionops.data.files import walk_files
    from visionops.data.formats import read_dataset
    from visionops.data.settings import DataConfig, FolderSource, Format
    from visionops.errors import ConfigError, DataError
    from visionops.tasks.spec import task_for

    root = folder.expanduser().absolute()
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    if labels is None:
        names = [file.name for file in walk_files(root) if file.is_image]
        if not names:
            raise DataError(f"{root}: no images in this folder")
        return Dataset.from_columns(use_case.name, (), {"key": names, "path": [str(root / n) for n in names]}, {})
    if labels not in set(Format):
        raise ConfigError(f"--labels: unknown format {labels!r}; expected one of {', '.join(Format)}")
    data = DataConfig(source=FolderSource(kind="folder", path=root), format=Format(labels))
    return read_dataset(root, data, use_case.name, task_for(use_case.task).fit_dataset)


def _know(review: Review, use_case: Config, dataset: Dataset | None = None) -> None:
    """Add the use case to the review with the classes of its data set, and set the share of second opinions."""
    from visionops.review.exchange import scheme_of
    from visionops.review.items import UseCase

    if use_case.name not in {known.name for known in review.store.use_cases()}:
        dataset = dataset or _read_own(use_case)
        review.put_use_case(UseCase(use_case.name, use_case.task, scheme_of(dataset)))
    review.set_second_share(use_case.name, use_case.review.second_opinion.share)


def _read_own(use_case: Config) -> Dataset:
    """Read the data set of a use case."""
    from visionops.data.formats import read_dataset
    from visionops.data.sources import fetch
    from visionops.home import visionops_home
    from visionops.tasks.spec import task_for

    root = fetch(use_case.data.source, visionops_home() / "data")
    return read_dataset(root, use_case.data, use_case.name, task_for(use_case.task).fit_dataset)


def index_dataset(config: Path, *, with_history: bool) -> None:
    """Index the images of the data set with their splits.

    Raises:
        VisionOpsError: The use case, its data set, the registry or the database cannot be used.
    """
    from launch.similar import index_images
    from visionops.config import load_config
    from visionops.review_store.opening import open_review

    use_case = load_config(config)
    with open_review() as review:
        dataset = _read_own(use_case)
        _know(review, use_case, dataset)
        index_images(review, use_case, dataset, with_history=with_history)


def list_similar(name: str, image: Path, limit: int) -> None:
    """Print the indexed images that are most similar to an image.

    Raises:
        VisionOpsError: The image cannot be read, or the use case is not in review.
    """
    from launch.similar import print_similar
    from visionops.review_store.opening import open_review

    with open_review() as review:
        print_similar(review, name, image, limit)


def queue_label_errors(config: Path, limit: int, model: Path | None, reviewer: str | None) -> None:
    """Queue the labels of the data set that a model contradicts most.

    Args:
        model: Folder of a bundle; the champion when None.

    Raises:
        VisionOpsError: The data set, the model or the database cannot be used, or no label can be checked.
    """
    from launch.review_model import open_model
    from visionops.config import load_config
    from visionops.errors import DataError
    from visionops.review.label_audit import audit_labels
    from visionops.review.states import Actor
    from visionops.review_store.opening import open_review

    use_case = load_config(config)
    dataset = _read_own(use_case)
    with open_model(use_case, model) as checker, open_review() as review:
        _know(review, use_case)
        actor, now = Actor(reviewer or getpass.getuser()), datetime.now(UTC)
        found = audit_labels(review, use_case.name, dataset, checker, actor, now, limit=limit)
    _print_refused(found.refused)
    if not found.labelled:
        raise DataError(f"{use_case.name}: no image has a label that can be checked")
    typer.echo(
        f"labels    {found.labelled} checked by {checker.name} {checker.version}, {found.suspects} probably wrong"
    )
    typer.echo(f"queued    {found.new} new, {found.known} already in review")
    if found.decided:
        typer.echo(f"left      {found.decided} already decided by reviewers")
