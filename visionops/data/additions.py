"""Read images that people labelled later, and add them to the data set.

They are split like all images (`visionops.data.splitting`): each goes to the split of the images that it looks like, or
else to one chosen by a hash of its content, so that it keeps its split however many images follow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from visionops.data.cleaning import clean
from visionops.data.dataset import ADDED, Dataset, Split
from visionops.data.files import walk_files
from visionops.data.findings import Code, Finding, counted
from visionops.data.formats import read_dataset
from visionops.data.hashing import hash_images
from visionops.data.history import SplitHistory
from visionops.data.layers import BOXES_SCHEMA, Attribute
from visionops.data.settings import DataConfig, FolderSource, Format, ReviewSource, SplitConfig, ValidationPolicy
from visionops.data.sources import fetch, of_additions
from visionops.data.splitting.assignment import assign_splits
from visionops.data.validation.copy_checks import same_boxes
from visionops.data.validation.judging import validate
from visionops.data.validation.report import ValidationReport
from visionops.errors import DataError

__all__ = [
    "ADDED",
    "add_images",
    "differing_labels",
    "fit_classes",
    "join_additions",
    "mark_added",
    "originals_of",
    "read_additions",
]

_MOST_NAMED = 3
_Validate = Callable[[Dataset, ValidationPolicy, Callable[[int], None] | None], ValidationReport]


def read_additions(
    data: DataConfig, name: str, fit: Callable[[Dataset, Format], Dataset], cache: Path
) -> Dataset | None:
    """Return the labelled images of ``data.additions``, hashed, without a split; None if there are none yet.

    Returns None for ``kind: review``: a step of its own reads images of a review (`mark_added`).

    Args:
        name: Name of the data set.
        fit: As in `read_dataset`.
        cache: As in `fetch`.

    Raises:
        DataError: The folder is missing, or does not match ``data.format``.
    """
    if data.additions is None or isinstance(data.additions, ReviewSource):
        return None
    with of_additions():
        root = fetch(data.additions, cache)
        if isinstance(data.additions, FolderSource) and next(walk_files(root), None) is None:
            return None
        added = read_dataset(root, data, name, fit)
    labelled = [row for row, split in enumerate(added.column("split")) if split != Split.UNLABELLED.value]
    if not labelled:
        return None
    # Which splits the folder has does not matter here.
    findings = tuple(f for f in added.findings if f.code is not Code.EMPTY_SPLIT)
    added = dataclasses.replace(added.take(labelled), findings=findings)
    return hash_images(mark_added(added))


def mark_added(labelled: Dataset) -> Dataset:
    """Return images with keys of additions and without a split."""
    marked = labelled.replace_column("key", [ADDED + key for key in labelled.column("key")])
    marked = marked.replace_column("group", [group and ADDED + group for group in marked.column("group")])
    return marked.replace_column("split", [Split.NONE.value] * marked.num_images)


def fit_classes(added: Dataset, class_names: Sequence[str], attributes: Sequence[Attribute]) -> Dataset:
    """Return ``added`` with its class ids changed to another order of classes.

    Args:
        class_names: Classes of boxes.
        attributes: Attributes of whole images.

    Raises:
        DataError: ``added`` has another class.
    """
    wanted = {attribute.name: attribute for attribute in attributes}
    if len(added.attributes) != len(wanted) or any(a.name not in wanted for a in added.attributes):
        ours, theirs = ", ".join(wanted) or "boxes", ", ".join(a.name for a in added.attributes) or "boxes"
        raise DataError(f"data.additions: labelled by {theirs}, but the data set by {ours}; label it by the same")
    labels = {}
    for attribute in added.attributes:
        ids = added.labels.column(attribute.name).to_pylist()
        new_id = _new_ids(attribute.class_names, wanted[attribute.name].class_names, {i for i in ids if i is not None})
        labels[attribute.name] = pa.array([i if i is None else new_id[i] for i in ids], pa.int32())
    class_ids = added.boxes.column("class_id").to_numpy()
    new_id = _new_ids(added.class_names, class_names, set(class_ids.tolist()))
    mapped = pa.array([new_id[i] for i in class_ids.tolist()], pa.int32())
    if attributes:
        added = added.with_labels(attributes, pa.table({a.name: labels[a.name] for a in attributes}))
    if not added.num_boxes and not class_names:
        return added
    boxes = added.boxes.set_column(BOXES_SCHEMA.get_field_index("class_id"), "class_id", mapped)
    return added.with_boxes(boxes, class_names)


def _new_ids(before: Sequence[str], after: Sequence[str], used: set[int]) -> dict[int, int]:
    for name in sorted(before[i] for i in used):
        if name not in after:
            raise DataError(
                f"data.additions: unknown class {name!r}; the data set has {', '.join(after)}; "
                "add images of it to data.source, too, or fix the label"
            )
    return {i: after.index(before[i]) for i in used}


def add_images(
    dataset: Dataset,
    added: Dataset,
    validation: ValidationPolicy,
    split: SplitConfig,
    progress: Callable[[int], None] | None = None,
    history: SplitHistory | None = None,
) -> Dataset:
    """Return ``dataset`` followed by ``added``, checked, cleaned and split by `assign_splits`.

    Args:
        dataset: A clean data set, split or not.
        added: Images from `read_additions`.
        progress: Called with the number of images checked so far.
        history: Splits of earlier versions.

    Raises:
        DataError: The policy stops at a finding, a class is unknown, or a split would be empty.
    """
    joined = join_additions(dataset, added, validation, progress)
    return assign_splits(joined, split, history, distance=validation.near_duplicate_distance)


def join_additions(
    dataset: Dataset,
    added: Dataset,
    validation: ValidationPolicy,
    progress: Callable[[int], None] | None = None,
    validate: _Validate = validate,
) -> Dataset:
    """Return ``dataset`` followed by ``added``, clean, the additions without a split.

    An addition that is the same file as an image of the data set is left out; the label in the data set stays. If their
    labels differ, a `Code.CONFLICTING_LABEL` names both.

    Args:
        dataset: A clean data set.
        added: Images from `read_additions`.
        progress: Called with the number of images checked so far.
        validate: Checks both together.

    Raises:
        DataError: The policy stops at a finding, or a class is unknown.
    """
    added = fit_classes(added, dataset.class_names, dataset.attributes)
    new, conflicts = _without_copies_of(dataset, added)
    # Measured over both unless it is configured: additions may be brighter.
    both = dataclasses.replace(dataset.append(new), white_level=added.white_level)
    report = validate(both, validation, progress)
    with of_additions():
        report.raise_if_stopped()
    cleaned = clean(dataclasses.replace(both, notes=()), report)
    notes = [note for note in cleaned.notes if note not in dataset.notes]
    notes += [f"{finding.where}: {finding.message}." for finding in conflicts[:_MOST_NAMED]]
    if len(conflicts) > _MOST_NAMED:
        notes.append(f"{len(conflicts) - _MOST_NAMED} more additions contradict the data set, whose labels stay.")
    kept = sum(key.startswith(ADDED) for key in cleaned.column("key"))
    gone = added.num_images - kept
    notes.append(
        f"{counted(kept, 'image')} labelled later {'was' if kept == 1 else 'were'} added"
        + (f"; {counted(gone, 'image')} left out: unusable, or copies of existing images." if gone else ".")
    )
    return dataclasses.replace(
        cleaned, notes=(*dataset.notes, *notes), findings=(*dataset.findings, *new.findings, *conflicts)
    )


def originals_of(dataset: Dataset, added: Dataset) -> dict[int, int]:
    """Return which rows of ``added`` are the same file as a labelled row of ``dataset``, and which row."""
    splits = dataset.column("split")
    labelled = [row for row, split in enumerate(splits) if split != Split.UNLABELLED.value]
    digests = dataset.column("sha256")
    row_of = {digests[row]: row for row in labelled if digests[row]}
    return {row: row_of[digest] for row, digest in enumerate(added.column("sha256")) if digest in row_of}


def differing_labels(dataset: Dataset, added: Dataset, copies: Mapping[int, int]) -> dict[int, str]:
    """Return which copies have other labels than their originals, and a text on how they differ.

    Args:
        added: Images with the classes of ``dataset`` (`fit_classes`).
        copies: Result of `originals_of`.
    """
    if not copies:
        return {}
    ours, theirs = dataset.label_array(), added.label_array()
    found = {row: _differing_class(dataset, ours[original], theirs[row]) for row, original in copies.items()}
    if not dataset.attributes:
        boxes, others = dataset.boxes_by_image(), added.boxes_by_image()
        same = {row for row, original in copies.items() if same_boxes(boxes[original], others[row])}
        found = {row: "" if row in same else "other boxes" for row in copies}
    return {row: differing for row, differing in found.items() if differing}


def _without_copies_of(dataset: Dataset, added: Dataset) -> tuple[Dataset, list[Finding]]:
    """Return the additions that are not files of ``dataset``, and a finding for each copy with another label."""
    copies = originals_of(dataset, added)
    if not copies:
        return added, []
    ours, keys = dataset.column("key"), added.column("key")
    findings = []
    for row, differing in differing_labels(dataset, added, copies).items():
        original = ours[copies[row]]
        message = f"the same file as {original}, but with {differing}; the label of the data set stays"
        findings.append(Finding.of(Code.CONFLICTING_LABEL, keys[row], message, (keys[row], original)))
    return added.take([row for row in range(added.num_images) if row not in copies]), findings


def _differing_class(dataset: Dataset, ours: npt.NDArray[np.int32], theirs: npt.NDArray[np.int32]) -> str:
    for attribute, one, other in zip(dataset.attributes, ours.tolist(), theirs.tolist(), strict=True):
        if one >= 0 and other >= 0 and one != other:
            return f"{attribute.name} {attribute.class_names[other]} instead of {attribute.class_names[one]}"
    return ""
