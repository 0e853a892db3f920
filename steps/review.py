"""Turn decisions of reviewers into images that a training adds."""

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


# Not cached, because there may be new decisions. Earlier decisions give the same content again.
@step(enable_cache=False, output_materializers={"reviewed": DatasetMaterializer})
def read_reviewed(
    source: ReviewSource, use_case: UseCase, white_level: int | None, makes_version: bool
) -> tuple[Annotated[Dataset, "reviewed"], Annotated[ReviewVersion, "review_version"]]:
    """Read all data versions of a review up to one, and create the next version from new decisions if requested.

    Args:
        white_level: Setting of ``data``.
        makes_version: Create a version, as trainings do, unless ``source`` names one.
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


# Not cached, because the review may be another one. Images that it has indexed take almost no time.
@step(enable_cache=False)
def index_images(
    registered_version: RegisteredVersion,
    prepared: StoredDataset,
    splits: SplitHistory,
    source: ReviewSource,
    use_case: UseCase,
) -> None:
    """Index the images of a registered version in the review, so that new images are compared with them.

    If the review does not answer, the training still succeeds without the index, and the next training creates it.

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
        announce(f"the images of version {registered_version.version} are not indexed in the review: {error}")
        return
    log_metadata({"version": registered_version.version, "indexed": True, "images": indexed.images})
    for line in indexed.refused[:_MOST_REFUSALS]:
        announce(line)
    announce(indexed.explain())


def read_decided_labels(source: ReviewSource, use_case: UseCase) -> DecidedLabels | None:
    """Return the labels from the review of a use case; None if nothing is reviewed yet.

    Raises:
        ReviewError: ``source`` names a use case that is not in review, or the database or the images cannot be reached.
    """
    with open_review() as review:
        case = _find_case(review, source, use_case)
        return None if case is None else read_labels(review, case, _image_cache())


def _find_case(review: Review, source: ReviewSource, use_case: UseCase) -> ReviewedCase | None:
    """Return the reviewed case of a use case; None if nothing is reviewed yet.

    Raises:
        NotFound: ``source`` names a use case that is not in review.
        DataError: The review has another task.
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
    """Return the folder for images of reviews on this machine."""
    return visionops_home() / "data" / "review"
