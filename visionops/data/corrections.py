"""Apply people's corrections to the labels of a data set; unlike additions, they replace its labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np

from visionops.data.additions import differing_labels, fit_classes, originals_of
from visionops.data.dataset import Dataset, Split
from visionops.data.findings import Code, Finding, counted
from visionops.data.sources import of_additions

__all__ = ["apply_review"]


def apply_review(dataset: Dataset, reviewed: Dataset, rejected: Collection[str]) -> tuple[Dataset, Dataset]:
    """Apply the decisions of a review to the images of a data set, and return the images that are left to add.

    An image that is the same file as a reviewed one gets its label and keeps its key and split. A rejected image is
    left out. Both become findings.

    Args:
        dataset: A clean data set with ``sha256``.
        reviewed: Images from `mark_added`, with ``sha256``.
        rejected: SHA-256 of rejected images, lower-case hex.

    Returns:
        The data set, and the reviewed images that are not in it.

    Raises:
        DataError: A reviewed image has a class that is unknown to the data set.
    """
    if reviewed.num_images:
        with of_additions():
            reviewed = fit_classes(reviewed, dataset.class_names, dataset.attributes)
        dataset, reviewed = _correct(dataset, reviewed)
    return _leave_out(dataset, frozenset(rejected)), reviewed


def _correct(dataset: Dataset, reviewed: Dataset) -> tuple[Dataset, Dataset]:
    copies = originals_of(dataset, reviewed)
    if not copies:
        return dataset, reviewed
    keys, findings = dataset.column("key"), []
    for row, differing in differing_labels(dataset, reviewed, copies).items():
        key = keys[copies[row]]
        findings.append(Finding.of(Code.CORRECTED_LABEL, key, f"corrected in review: {differing}", (key,)))
    total = dataset.num_images
    source = np.arange(total)
    source[list(copies.values())] = [total + row for row in copies]
    layers = {
        name: layer.append(reviewed.layers[name], total).take(source, total + reviewed.num_images)
        for name, layer in dataset.layers.items()
    }
    notes = [f"{counted(len(findings), 'label')} of the data set corrected in review."] if findings else []
    corrected = dataclasses.replace(
        dataset, layers=layers, notes=(*dataset.notes, *notes), findings=(*dataset.findings, *findings)
    )
    return corrected, reviewed.take([row for row in range(reviewed.num_images) if row not in copies])


def _leave_out(dataset: Dataset, rejected: frozenset[str]) -> Dataset:
    keys, digests, splits = (dataset.column(name) for name in ("key", "sha256", "split"))
    gone = [r for r, digest in enumerate(digests) if digest in rejected and splits[r] != Split.UNLABELLED.value]
    if not gone:
        return dataset
    findings = [Finding.of(Code.REJECTED_IMAGE, keys[r], "rejected in review; left out", (keys[r],)) for r in gone]
    kept = dataset.take(sorted(set(range(dataset.num_images)).difference(gone)))
    note = f"{counted(len(gone), 'image')} of the data set left out: rejected in review."
    return dataclasses.replace(kept, notes=(*dataset.notes, note), findings=(*dataset.findings, *findings))
