"""Images that people labelled since: read as the data set is, and added to it without moving what it has.

A data set that is split anew whenever it grows would put into the test split what the champion has learned from, and no
challenger could beat it. So the images that were there keep their splits, and each addition is dealt by its own
content: it stays where it is however many follow.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from visionops.config import DataConfig, FolderSource, SplitConfig, ValidationPolicy
from visionops.data.cleaning import clean
from visionops.data.dataset import BOXES_SCHEMA, Attribute, Dataset, Split
from visionops.data.files import walk_files
from visionops.data.findings import Code, counted
from visionops.data.formats import read_dataset
from visionops.data.hashing import hash_images
from visionops.data.sources import fetch, of_additions
from visionops.data.validation import validate
from visionops.errors import DataError
from visionops.inference.bundle import Task

__all__ = ["ADDED", "add_images", "fit_classes", "read_additions"]

ADDED = "additions/"
"""Before the keys of added images."""


def read_additions(data: DataConfig, name: str, task: Task, cache: Path) -> Dataset | None:
    """The labelled images of ``data.additions``, hashed, without a split; None where there are none (yet).

    Args:
        name: Of the data set.
        cache: As for `fetch`.

    Raises:
        DataError: The folder is not there, or is not what ``data.format`` says.
    """
    if data.additions is None:
        return None
    with of_additions():
        root = fetch(data.additions, cache)
        if isinstance(data.additions, FolderSource) and next(walk_files(root), None) is None:
            return None
        added = read_dataset(root, data, name, task)
    labelled = [row for row, split in enumerate(added.column("split")) if split != Split.UNLABELLED.value]
    if not labelled:
        return None
    # Which splits the folder has does not matter here.
    findings = tuple(f for f in added.findings if f.code is not Code.EMPTY_SPLIT)
    added = dataclasses.replace(added.take(labelled), findings=findings)
    added = added.replace_column("key", [ADDED + key for key in added.column("key")])
    added = added.replace_column("group", [group and ADDED + group for group in added.column("group")])
    return hash_images(added.replace_column("split", [Split.NONE.value] * added.num_images))


def fit_classes(added: Dataset, class_names: Sequence[str], attributes: Sequence[Attribute]) -> Dataset:
    """``added`` with its class ids counted in another order of classes.

    Args:
        class_names: Of boxes.
        attributes: Of whole images.

    Raises:
        DataError: It has a class that is not among them.
    """
    wanted = {attribute.name: attribute for attribute in attributes}
    if len(added.attributes) != len(wanted) or any(a.name not in wanted for a in added.attributes):
        ours, theirs = ", ".join(wanted) or "boxes", ", ".join(a.name for a in added.attributes) or "boxes"
        raise DataError(f"data.additions: is labelled by {theirs}, the data set by {ours}; label it by the same")
    labels = {}
    for attribute in added.attributes:
        ids = added.labels.column(attribute.name).to_pylist()
        new_id = _new_ids(attribute.class_names, wanted[attribute.name].class_names, {i for i in ids if i is not None})
        labels[attribute.name] = pa.array([i if i is None else new_id[i] for i in ids], pa.int32())
    class_ids = added.boxes.column("class_id").to_numpy()
    new_id = _new_ids(added.class_names, class_names, set(class_ids.tolist()))
    mapped = pa.array([new_id[i] for i in class_ids.tolist()], pa.int32())
    return dataclasses.replace(
        added,
        class_names=tuple(class_names),
        attributes=tuple(attributes),
        boxes=added.boxes.set_column(BOXES_SCHEMA.get_field_index("class_id"), "class_id", mapped),
        labels=pa.table({a.name: labels[a.name] for a in attributes}),
    )


def _new_ids(before: Sequence[str], after: Sequence[str], used: set[int]) -> dict[int, int]:
    for name in sorted(before[i] for i in used):
        if name not in after:
            raise DataError(
                f"data.additions: has the class {name!r}, which the data set has not ({', '.join(after)}); "
                "add such images to data.source, too, or mend the label"
            )
    return {i: after.index(before[i]) for i in used}


def add_images(
    dataset: Dataset,
    added: Dataset,
    validation: ValidationPolicy,
    split: SplitConfig,
    progress: Callable[[int], None] | None = None,
) -> Dataset:
    """``dataset`` with ``added`` behind it: looked at, mended and dealt to the splits.

    What the data set has keeps its split. An addition goes where the images are that it looks like, nowhere if they are
    in two splits, and else by a hash of its content to test, val or train in the shares of ``split``.

    Args:
        dataset: Clean and split.
        added: By `read_additions`.
        progress: Called with the number of images looked at so far.

    Raises:
        DataError: The policy stops at what was found, or a class is unknown.
    """
    added = fit_classes(added, dataset.class_names, dataset.attributes)
    both = _concat(dataset, added)
    findings = validate(both, validation, progress)
    with of_additions():
        findings.raise_if_stopped()
    known = dict(zip(dataset.column("key"), dataset.column("split"), strict=True))
    cleaned = clean(dataclasses.replace(both, notes=()), findings)
    placed = _place(cleaned, known, split)
    kept = [row for row, where in enumerate(placed) if where is not None]
    result = cleaned.replace_column("split", [where or "" for where in placed]).take(kept)
    tally = collections.Counter(
        where for key, where in zip(result.column("key"), result.column("split"), strict=True) if key not in known
    )
    shares = ", ".join(f"{tally[s.value]} {s.value}" for s in (Split.TRAIN, Split.VAL, Split.TEST))
    notes = [f"{counted(sum(tally.values()), 'image')} labelled since were added: {shares}."]
    if gone := len(added.images) - sum(tally.values()):
        notes.append(f"{counted(gone, 'image')} labelled since left out: broken, or like images that are there.")
    return dataclasses.replace(result, notes=(*dataset.notes, *notes))


def _place(cleaned: Dataset, known: dict[str, str], split: SplitConfig) -> list[str | None]:
    """The split of each row; None: there is no honest one."""
    keys, hashes, groups = cleaned.column("key"), cleaned.column("sha256"), cleaned.column("group")
    homes: dict[str, set[str]] = collections.defaultdict(set)
    first: dict[str, str] = {}
    for key, digest, group in zip(keys, hashes, groups, strict=True):
        if key in known and known[key] != Split.UNLABELLED.value:
            homes[group].add(known[key])
        elif group:
            first[group] = min(digest, first.get(group, digest))
    placed: list[str | None] = []
    for key, digest, group in zip(keys, hashes, groups, strict=True):
        home = homes[group] if group else set()
        if key in known:
            placed.append(known[key])
        elif len(home) > 1:
            placed.append(None)
        else:
            placed.append(next(iter(home), None) or _dealt(first.get(group, digest), split))
    return placed


def _dealt(digest: str, split: SplitConfig) -> str:
    drawn = int(hashlib.sha256(f"{split.seed} {digest}".encode()).hexdigest()[:13], 16) / 16**13
    if drawn < split.test:
        return Split.TEST.value
    return Split.VAL.value if drawn < split.test + split.val else Split.TRAIN.value


def _concat(dataset: Dataset, added: Dataset) -> Dataset:
    rows = added.boxes.column("image").to_numpy() + dataset.num_images
    boxes = added.boxes.set_column(BOXES_SCHEMA.get_field_index("image"), "image", pa.array(rows.astype(np.int64)))
    return dataclasses.replace(
        dataset,
        images=pa.concat_tables([dataset.images, added.images]),
        boxes=pa.concat_tables([dataset.boxes, boxes]),
        labels=pa.concat_tables([dataset.labels, added.labels]) if dataset.attributes else dataset.labels,
        findings=(*dataset.findings, *added.findings),
    )
