"""Run all checks, and apply the policy that sets which findings stop the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

from visionops.data.dataset import Dataset
from visionops.data.findings import Finding
from visionops.data.settings import ValidationPolicy
from visionops.data.validation.box_checks import check_boxes
from visionops.data.validation.card import render_card
from visionops.data.validation.collection_checks import check_collection
from visionops.data.validation.copy_checks import check_copies, check_look_alikes, check_scenes, find_look_alikes
from visionops.data.validation.facts import collect_facts, count_images, measured_white
from visionops.data.validation.image_checks import check_images, check_white
from visionops.data.validation.inspected import InspectedImages, join_shards
from visionops.data.validation.inspection import Inspection, inspect_images
from visionops.data.validation.report import ValidationReport

__all__ = ["assess_dataset", "validate", "validate_inspected"]


def validate(
    dataset: Dataset, policy: ValidationPolicy, progress: Callable[[int], None] | None = None
) -> ValidationReport:
    """Check images, labels and the collection as a whole.

    Args:
        dataset: Data set from the reader; its own findings become part of the report.
        progress: Called with the number of images checked so far.
    """
    return assess_dataset(dataset, inspect_images(dataset, policy.max_pixels, progress), policy)


def assess_dataset(
    dataset: Dataset,
    inspections: Sequence[Inspection],
    policy: ValidationPolicy,
    fetch: Callable[[Dataset], Dataset] = lambda images: images,
) -> ValidationReport:
    """Return the report on images, labels and the collection as a whole; read images only for the card's pictures.

    Args:
        dataset: As in `validate`.
        inspections: Result of `inspect_images`, in row order.
        fetch: Returns the given images with paths on this machine.
    """
    white = dataset.white_level or measured_white(inspections)
    facts = collect_facts(dataset, inspections, white)
    groups, scenes = find_look_alikes(dataset, facts, policy.near_duplicate_distance)
    findings = [
        *dataset.findings,
        *check_images(dataset, inspections, white),
        *check_white(dataset, inspections, white),
        *check_boxes(dataset, facts),
        *check_copies(dataset, facts),
        *check_look_alikes(dataset, groups),
        *check_scenes(dataset, scenes),
        *check_collection(dataset, facts, policy),
    ]
    keys = dataset.column("key")
    report = ValidationReport(
        dataset_name=dataset.name,
        findings=tuple(_judged(findings, policy)),
        counts=count_images(dataset, facts),
        facts=facts,
        near_groups=tuple(tuple(keys[row] for row in group) for group in groups),
        white=white,
    )
    shown = dataclasses.replace(dataset, white_level=white)
    return dataclasses.replace(report, card=render_card(shown, report, fetch))


def validate_inspected(
    dataset: Dataset,
    parts: Sequence[InspectedImages],
    policy: ValidationPolicy,
    fetch: Callable[[Dataset], Dataset] = lambda images: images,
) -> ValidationReport:
    """Return the report on images that were inspected in shards; it equals the report of a single part.

    Args:
        parts: Inspected parts that together contain each image once.

    Raises:
        DataError: An image was not inspected.
    """
    return assess_dataset(dataset, join_shards(dataset, parts), policy, fetch)


def _judged(findings: Iterable[Finding], policy: ValidationPolicy) -> Iterator[Finding]:
    for finding in findings:
        severity = policy.severities.get(finding.code)
        yield dataclasses.replace(finding, severity=severity) if severity else finding
