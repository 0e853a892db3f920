"""From what people decided in review to images that a training adds."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from zenml import get_step_context, log_metadata, step

from materializers.dataset import DatasetMaterializer
from steps.progress import announce
from visionops.data.additions import mark_added
from visionops.data.dataset import Dataset
from visionops.data.history import SplitHistory
from visionops.data.settings import ReviewSource
from visionops.data.shards import StoredDataset
from visionops.errors import VisionOpsError
from visionops.home import visionops_home
from visionops.inference.settings import UseCase
from visionops.registry import RegisteredVersion
from visionops.review.errors import NotFound
from visionops.review.exchange import scheme_of
from visionops.review.indexing import index_prepared
from visionops.review.items import UseCase as ReviewedCase
from visionops.review.service import Review
from visionops.review.states import Actor
from visionops.review.versions import DecidedLabels, ReviewVersion, check_task, read_labels, read_version
from visionops.review_store.opening import open_review

__all__ = ["index_images", "read_decided_labels", "read_reviewed"]

_MOST_REFUSALS = 10


# Not cached: there may be new decisions. What was decided before comes back as the same content.
@step(enable_cache=False, output_materializers={"reviewed": DatasetMaterializer})
def read_reviewed(
    source: ReviewSource, use_case: UseCase, white_level: int | None, makes_version: bool
) -> tuple[Annotated[Dataset, "reviewed"], Annotated[ReviewVersion, "review_version"]]:
    """Make the next data version of what was decided since, if wanted, and read all of them up to one.

    Args:
        white_level: Of ``data``.
        makes_version: Of trainings; a version that ``source`` names is read as it is, too.
    """
    with open_review() as review:
        case, name = _find_case(review, source, use_case), source.use_case or use_case.name
        if makes_version and case is not None and source.version is None:
            run = get_step_context().pipeline_run
            actor, now = Actor(f"training {use_case.name}"), datetime.now(UTC)
            review.export(name, actor, key=f"run {run.id}", now=now)
        found = read_version(review, case, name, _image_cache(), number=source.version)
    log_metadata(found.version.lineage)
    announce(found.version.explain())
    return dataclasses.replace(mark_added(found.dataset), white_level=white_level), found.version


# Not cached: the review may be another. What it knows already costs next to nothing.
@step(enable_cache=False)
def index_images(
    registered_version: RegisteredVersion,
    prepared: StoredDataset,
    splits: SplitHistory,
    source: ReviewSource,
    use_case: UseCase,
) -> None:
    """Make the images of a registered version known to the review, so that what arrives is compared with them.

    A review that cannot be reached by now costs the index and not the training: the next training makes it again.

    Args:
        splits: The history with this version.
    """
    name = source.use_case or use_case.name
    try:
        with open_review() as review:
            case = ReviewedCase(name, use_case.task, scheme_of(prepared.tables))
            indexed = index_prepared(review, case, prepared, splits)
    except VisionOpsError as error:
        log_metadata({"version": registered_version.version, "indexed": False})
        announce(f"the review does not know the images of version {registered_version.version}: {error}")
        return
    log_metadata({"version": registered_version.version, "indexed": True, "images": indexed.images})
    for line in indexed.refused[:_MOST_REFUSALS]:
        announce(line)
    announce(indexed.explain())


def read_decided_labels(source: ReviewSource, use_case: UseCase) -> DecidedLabels | None:
    """Return what is labelled in the review of a use case; None where nothing is reviewed yet.

    Raises:
        ReviewError: ``source`` names a use case that is not in review, or database or images cannot be reached.
    """
    with open_review() as review:
        case = _find_case(review, source, use_case)
        return None if case is None else read_labels(review, case, _image_cache())


def _find_case(review: Review, source: ReviewSource, use_case: UseCase) -> ReviewedCase | None:
    """Return what is reviewed for a use case; None where nothing is yet.

    Raises:
        NotFound: ``source`` names a use case that is not in review.
        DataError: It is reviewed as another task.
    """
    try:
        case = review.store.use_case(source.use_case or use_case.name)
    except NotFound:
        if source.use_case is not None:
            raise
        return None
    check_task(case, use_case.task)
    return case


def _image_cache() -> Path:
    """Return where images of reviews lie on this machine."""
    return visionops_home() / "data" / "review"
