"""Report findings of the data set as a whole: its splits, and the number of examples of each class."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from visionops.data.dataset import ADDED, Dataset, Split
from visionops.data.duplicates import copies_of_files
from visionops.data.findings import Code, Finding, counted
from visionops.data.layers import Attribute
from visionops.data.settings import ValidationPolicy
from visionops.data.validation.copy_checks import conflicting_rows
from visionops.data.validation.splits import GIVEN_SPLITS

__all__ = ["IMBALANCE_RATIO", "check_collection"]

IMBALANCE_RATIO = 10.0


def check_collection(dataset: Dataset, facts: pa.Table, policy: ValidationPolicy) -> Iterator[Finding]:
    """Report too few images, splits that lack images, and classes that lack examples."""
    usable = [not problem for problem in facts.column("problem").to_pylist()]
    splits = dataset.column("split")
    labelled = [s for s, ok in zip(splits, usable, strict=True) if ok and s != Split.UNLABELLED.value]
    if len(labelled) < policy.min_images:
        message = f"{len(labelled)} usable images, at least {policy.min_images} are needed; add images"
        yield Finding.of(Code.TOO_FEW_IMAGES, dataset.name, message)
    given = [s for s in GIVEN_SPLITS if s in splits]
    # The reader reports declared splits without rows. Here: splits that lost all their images, and a missing train.
    emptied = [s for s in given if s not in labelled]
    if given and Split.TRAIN.value not in given:
        emptied.insert(0, Split.TRAIN.value)
    reported = {f.where.rstrip("/").rpartition("/")[2] for f in dataset.findings if f.code is Code.EMPTY_SPLIT}
    for split in emptied:
        if split not in reported:
            yield Finding.of(Code.EMPTY_SPLIT, split, f"no usable image is in {split}; add images or remove the split")
    pairs = zip(dataset.column("key"), splits, strict=True)
    unsplit = tuple(key for key, split in pairs if split == Split.NONE.value and not key.startswith(ADDED))
    if given and unsplit:
        message = (
            f"{counted(len(unsplit), 'image')} without a split among images that have one: each goes to the split of "
            "the images that it looks like, to none if these are in several, and else to train; give it a split"
        )
        yield Finding.of(Code.MISSING_SPLIT, unsplit[0], message, unsplit)
    if not dataset.attributes:
        yield from _splits_without_boxes(dataset, [s for s in given if s in labelled])
    taught = Split.TRAIN.value if Split.TRAIN.value in given else None
    if dataset.attributes:
        yield from _label_findings(dataset, facts, policy, taught)
    else:
        yield from _class_findings(dataset, policy, taught)


def _splits_without_boxes(dataset: Dataset, given: Sequence[str]) -> Iterator[Finding]:
    splits = np.array(dataset.column("split"), dtype=object)
    boxes_in = collections.Counter(splits[dataset.box_arrays()[0]].tolist())
    why = {Split.VAL.value: "cannot choose an epoch", Split.TEST.value: "cannot judge a model"}
    for split in given:
        if split in why and dataset.num_boxes and not boxes_in[split]:
            message = (
                f"no image of {split} has an object, so it {why[split]}; move labelled images there, or remove the "
                "split to have one cut from the others"
            )
            yield Finding.of(Code.SPLIT_WITHOUT_BOXES, split, message)


def _label_findings(
    dataset: Dataset, facts: pa.Table, policy: ValidationPolicy, split: str | None
) -> Iterator[Finding]:
    """Report labels of the kept images that are unknown or cannot be learned."""
    splits = np.array(dataset.column("split"), dtype=object)
    kept = np.zeros(dataset.num_images, dtype=bool)
    kept[[copies[0] for copies in copies_of_files(facts.column("sha256").to_pylist(), splits.tolist())]] = True
    kept[[row for rows in conflicting_rows(dataset, facts) for row in rows]] = False
    kept &= np.array([not problem for problem in facts.column("problem").to_pylist()], dtype=bool)
    kept &= splits != Split.UNLABELLED.value
    taught = kept if split is None else kept & (splits == split)
    place = f"in {split}" if split else "in the whole data set"
    labels = dataset.label_array()
    for attribute, class_ids in zip(dataset.attributes, labels.T, strict=True):
        if missing := int(np.sum(class_ids[kept] < 0)):
            message = f"not known for {missing:,} of {int(kept.sum()):,} images, which do not count for it"
            yield Finding.of(Code.MISSING_LABEL, attribute.name, message)
        counts = np.bincount(class_ids[taught & (class_ids >= 0)], minlength=len(attribute.class_names)).tolist()
        yield from _attribute_findings(attribute, counts, place, policy)


def _attribute_findings(
    attribute: Attribute, counts: list[int], place: str, policy: ValidationPolicy
) -> Iterator[Finding]:
    present = [i for i, count in enumerate(counts) if count]
    names = attribute.class_names
    if len(present) < 2:
        what = f"every image is {names[present[0]]}" if present else "no image has a label"
        message = f"{what} {place}, so there is nothing to learn; add images of another class, or remove the label"
        yield Finding.of(Code.SINGLE_VALUE, attribute.name, message)
        return
    for name, count in zip(names, counts, strict=True):
        where = f"{attribute.name} {name}"
        if count < policy.min_instances:
            have = counted(count, "image")
            message = f"{have} {place}, at least {policy.min_instances} are needed; add some, or merge classes"
            yield Finding.of(Code.TOO_FEW_INSTANCES, where, message)
        elif count == 1:
            message = f"1 image {place}, which cannot both train and test a model; add images, or merge classes"
            yield Finding.of(Code.SINGLE_IMAGE, where, message)
    most, least = max(present, key=counts.__getitem__), min(present, key=counts.__getitem__)
    if counts[most] >= IMBALANCE_RATIO * counts[least]:
        message = (
            f"{counted(counts[most], 'image')} against {counts[least]:,} of {names[least]} {place}, a ratio of "
            f"{counts[most] / counts[least]:.0f} to 1; add images of the rare class, or set training.balance"
        )
        yield Finding.of(Code.CLASS_IMBALANCE, f"{attribute.name} {names[most]}", message)


def _class_findings(dataset: Dataset, policy: ValidationPolicy, split: str | None) -> Iterator[Finding]:
    rows, class_ids, _ = dataset.box_arrays()
    if split is not None:
        class_ids = class_ids[np.array(dataset.column("split"), dtype=object)[rows] == split]
    counts = np.bincount(class_ids, minlength=len(dataset.class_names))
    place = f"in {split}" if split else "in the whole data set"
    for name, count in zip(dataset.class_names, counts.tolist(), strict=True):
        if count < policy.min_instances:
            fix = "label more, or leave the class out with data.categories"
            message = f"{count} boxes {place}, at least {policy.min_instances} are needed; {fix}"
            yield Finding.of(Code.TOO_FEW_INSTANCES, f"class {name}", message)
    present = np.flatnonzero(counts)
    if len(present) > 1:
        most, least = present[np.argmax(counts[present])], present[np.argmin(counts[present])]
        ratio = counts[most] / counts[least]
        if ratio >= IMBALANCE_RATIO:
            names = dataset.class_names
            message = (
                f"{counts[most]} boxes against {counts[least]} of {names[least]} {place}, a ratio of {ratio:.0f} to 1; "
                "label more of the rare class, and check its metrics separately"
            )
            yield Finding.of(Code.CLASS_IMBALANCE, f"class {names[most]}", message)
