"""Turn a source into a clean, split data set."""

from __future__ import annotations

import functools
from typing import Annotated

from zenml import log_metadata, step
from zenml.config.cache_policy import CachePolicy
from zenml.types import HTMLString

from materializers.dataset import DatasetMaterializer
from materializers.shard_results import ShardMaterializer
from materializers.split_history import SplitHistoryMaterializer
from materializers.validation_report import ValidationReportMaterializer
from steps.context import active_image_validator, active_registry, cache_identity, validation_identity
from steps.progress import announce, progress
from visionops.data.additions import join_additions, read_additions
from visionops.data.audit import render_label_audit_html
from visionops.data.cleaning import clean
from visionops.data.corrections import apply_review
from visionops.data.dataset import Dataset, Split
from visionops.data.formats import read_dataset
from visionops.data.hashing import hash_images
from visionops.data.history import SplitHistory
from visionops.data.settings import DataConfig, ValidationPolicy
from visionops.data.shards import StoredDataset
from visionops.data.sources import fetch
from visionops.data.splitting.assignment import assign_splits
from visionops.data.validation.inspected import InspectedImages
from visionops.data.validation.report import ValidationReport
from visionops.data.validation.validator import validate_by
from visionops.home import visionops_home
from visionops.inference.settings import UseCase
from visionops.lineage import recall_splits
from visionops.review.versions import ReviewVersion
from visionops.tasks.spec import task_for

__all__ = [
    "CACHE",
    "ingest",
    "join_validation",
    "prepare",
    "recall_split_history",
    "require_usable",
    "validate_data",
    "validate_shard",
]

CACHE = CachePolicy(cache_func=cache_identity)
"""Cache policy that reuses a result for equal inputs, parameters, domain code and artifact store."""
_VALIDATION_CACHE = CachePolicy(cache_func=validation_identity)
"""Cache policy that also requires the same data validator."""


@step(cache_policy=CACHE, output_materializers={"dataset": DatasetMaterializer})
def ingest(data: DataConfig, use_case: UseCase, source_fingerprint: str) -> Annotated[Dataset, "dataset"]:
    """Fetch the source and read its labels.

    Args:
        source_fingerprint: Fingerprint of the source, part of the cache key, so that a changed folder is read again.
    """
    with progress("fetch MB" if data.source.kind == "url" else "fetch", 0) as report:
        root = fetch(data.source, visionops_home() / "data", lambda done, total: report(done, "", total))
    dataset = read_dataset(root, data, use_case.name, task_for(use_case.task).fit_dataset)
    with progress("hash", dataset.num_images) as report:
        dataset = hash_images(dataset, lambda done, _: report(done))
    log_metadata({"source": source_fingerprint})
    announce(f"read {dataset.describe()}")
    return dataset


@step(cache_policy=_VALIDATION_CACHE, output_materializers={"validation": ValidationReportMaterializer})
def validate_data(dataset: Dataset, policy: ValidationPolicy) -> Annotated[ValidationReport, "validation"]:
    """Check every image and label; `prepare` decides on the result, so that the card is always stored."""
    with progress("validate", dataset.num_images) as report:
        return validate_by(active_image_validator(), dataset, policy, report)


@step(cache_policy=_VALIDATION_CACHE, output_materializers={"inspected": ShardMaterializer})
def validate_shard(
    dataset: StoredDataset, policy: ValidationPolicy, shard: int, shards: int
) -> Annotated[InspectedImages, "inspected"]:
    """Decode the images of one of ``shards`` parts, fetching only these to this machine."""
    part = dataset.fetch(dataset.tables.shard(shard, shards))
    with progress(f"shard {shard + 1}/{shards}", part.num_images) as report:
        return active_image_validator().inspect_images(part, policy, report)


@step(cache_policy=_VALIDATION_CACHE, output_materializers={"validation": ValidationReportMaterializer})
def join_validation(
    dataset: StoredDataset, inspected: list[InspectedImages], policy: ValidationPolicy
) -> Annotated[ValidationReport, "validation"]:
    """Join the shards to the report of `validate_data`; duplicates, leaks and class balance need the whole data set."""
    return active_image_validator().validate_images(dataset.tables, inspected, policy, dataset.fetch)


@step(enable_cache=False)
def require_usable(validation: ValidationReport) -> None:
    """Raise if the policy stops on the findings; warnings never stop."""
    announce(validation.summary())
    validation.raise_if_stopped()


@step(enable_cache=False, output_materializers={"split_history": SplitHistoryMaterializer})
def recall_split_history(use_case: UseCase) -> Annotated[SplitHistory, "split_history"]:
    """Read each image's split in earlier versions from the registry. Not cached, as there may be a new version."""
    history, silent = recall_splits(active_registry(), use_case.name)
    for version in silent:
        announce(f"version {version} has no stored split, so its images are split again")
    return history


@step(
    cache_policy=CACHE,
    output_materializers={"prepared": DatasetMaterializer, "splits": SplitHistoryMaterializer},
)
def prepare(
    dataset: StoredDataset,
    validation: ValidationReport,
    split_history: SplitHistory,
    data: DataConfig,
    policy: ValidationPolicy,
    use_case: UseCase,
    additions_fingerprint: str = "",
    reviewed: Dataset | None = None,
    review_version: ReviewVersion | None = None,
) -> tuple[Annotated[Dataset, "prepared"], Annotated[HTMLString, "label_audit"], Annotated[SplitHistory, "splits"]]:
    """Stop if the policy says so; otherwise clean the data, add newly labelled images, and split.

    ``splits`` is the history with this version.

    Args:
        additions_fingerprint: Fingerprint of ``data.additions``, used in the cache key only.
        reviewed: Images of `read_reviewed`, with ``review_version``, if ``data.additions`` is a review.
    """
    validation.raise_if_stopped()
    if additions_fingerprint:
        log_metadata({"additions": additions_fingerprint})
    cleaned, fetch = clean(dataset.tables, validation), dataset.fetch
    added = read_additions(data, use_case.name, task_for(use_case.task).fit_dataset, visionops_home() / "data")
    if reviewed is not None and review_version is not None:
        cleaned, added = apply_review(cleaned, reviewed, review_version.rejected)
    if added and added.num_images:
        check = functools.partial(validate_by, active_image_validator())
        with progress("additions", cleaned.num_images + added.num_images) as report:
            cleaned, fetch = join_additions(fetch(cleaned), added, policy, report, check), _at_hand
    elif data.additions and reviewed is None:
        announce("data.additions: no labelled images yet")
    distance = policy.near_duplicate_distance
    prepared = assign_splits(cleaned, data.split, split_history, distance=distance)
    for note in prepared.notes:
        announce(note)
    labelled = cleaned.select_split(Split.TRAIN, Split.VAL, Split.TEST, Split.NONE)
    left_out = [*labelled.column("sha256"), *(added.column("sha256") if added else ())]
    splits = split_history.merged(SplitHistory.of(prepared, left_out))
    return prepared, HTMLString(render_label_audit_html(prepared, fetch=fetch)), splits


def _at_hand(images: Dataset) -> Dataset:
    return images
