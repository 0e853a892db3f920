"""Report images that are the same file, or look the same."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from visionops.data.dataset import Dataset, Split
from visionops.data.duplicates import LOOK_SIZE, conflicting_copies, copies_of_files, look_alike_groups
from visionops.data.findings import Code, Finding
from visionops.data.layers import Boxes
from visionops.data.validation.splits import GIVEN_SPLITS

__all__ = ["check_copies", "check_look_alikes", "check_scenes", "conflicting_rows", "find_look_alikes", "same_boxes"]


def check_copies(dataset: Dataset, facts: pa.Table) -> Iterator[Finding]:
    """Report copies of one file: in several splits, in one split, or with different labels."""
    copies: dict[str, list[int]] = collections.defaultdict(list)
    for row, (sha256, problem) in enumerate(
        zip(*(facts.column(c).to_pylist() for c in ("sha256", "problem")), strict=True)
    ):
        if sha256 and not problem:
            copies[sha256].append(row)
    labels = dataset.boxes_by_image() if dataset.num_images else []
    conflicting = {rows[0]: rows for rows in conflicting_rows(dataset, facts)}
    for rows in copies.values():
        if disputed := next((conflicting[row] for row in rows if row in conflicting), None):
            keys = tuple(dataset.images.column("key")[row].as_py() for row in disputed)
            message = f"the same file as {_some(keys[1:])}, but {_differing(dataset, disputed)}; all are left out"
            yield Finding.of(Code.CONFLICTING_LABEL, keys[0], f"{message}: correct their labels", keys)
        elif len(rows) > 1:
            yield from _copies_found(dataset, rows, all(same_boxes(labels[rows[0]], labels[r]) for r in rows[1:]))


def same_boxes(first: Boxes, second: Boxes) -> bool:
    """Return whether two images have the same boxes of the same classes, in any order."""

    def table(boxes: Boxes) -> npt.NDArray[np.float64]:
        joined = np.column_stack([boxes.class_ids, boxes.xyxy])
        return np.asarray(joined[np.lexsort(joined.T)])

    return len(first.class_ids) == len(second.class_ids) and bool(np.array_equal(table(first), table(second)))


def _copies_found(dataset: Dataset, rows: list[int], same_labels: bool) -> Iterator[Finding]:
    keys, splits = dataset.column("key"), dataset.column("split")
    members = tuple(keys[row] for row in rows)
    others = _some(members[1:])
    unlike = "" if same_labels else "; their boxes differ: check which are right"
    given = [s for s in GIVEN_SPLITS if s in {splits[row] for row in rows}]
    if len(given) > 1:
        message = f"the same file is in {' and '.join(given)} ({others}); kept in {given[-1]} only{unlike}"
        yield Finding.of(Code.LEAK, members[0], message, members)
    else:
        apart = len({splits[row] for row in rows}) > 1
        kept = "one is for inference only, both are kept" if apart else "only the first is kept"
        yield Finding.of(Code.DUPLICATE_IMAGE, members[0], f"the same file as {others}; {kept}{unlike}", members)


def conflicting_rows(dataset: Dataset, facts: pa.Table) -> list[list[int]]:
    """Return the rows of each file that has different labels."""
    copies = copies_of_files(facts.column("sha256").to_pylist(), dataset.column("split"))
    return conflicting_copies(copies, dataset.label_array())


def _differing(dataset: Dataset, rows: Sequence[int]) -> str:
    """Return a text for the first attribute in which the images differ: ``hair_color is dark and grey``."""
    for attribute, class_ids in zip(dataset.attributes, dataset.label_array()[list(rows)].T, strict=True):
        names = [attribute.class_names[i] for i in dict.fromkeys(class_ids.tolist()) if i >= 0]
        if len(names) > 1:
            return f"{attribute.name} is {' and '.join(names)}"
    return "their labels are the same"


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def find_look_alikes(dataset: Dataset, facts: pa.Table, distance: int) -> tuple[list[list[int]], list[list[int]]]:
    """Return the rows of images that look the same, and the rows of constant scenes.

    Of copies of one file only the kept one is compared.
    """
    splits, looks = dataset.column("split"), facts.column("look").to_pylist()
    conflicting = {rows[0] for rows in conflicting_rows(dataset, facts)}
    kept = [copies[0] for copies in copies_of_files(facts.column("sha256").to_pylist(), splits)]
    kept = [row for row in kept if row not in conflicting]
    # Unlabelled images are never split or trained on, so look-alikes among them do not matter.
    rows = sorted(r for r in kept if looks[r] is not None and splits[r] != Split.UNLABELLED.value)
    hashes = facts.column("phash").to_numpy()[rows]
    pictures = np.frombuffer(b"".join(looks[row] for row in rows), dtype=np.uint8).reshape(-1, LOOK_SIZE, LOOK_SIZE)
    groups, scenes = look_alike_groups(hashes, pictures, distance)
    return [[rows[i] for i in group] for group in groups], [[rows[i] for i in group] for group in scenes]


def check_scenes(dataset: Dataset, scenes: Sequence[Sequence[int]]) -> Iterator[Finding]:
    """Report scenes with more images than copies would have; ``scenes`` has rows."""
    keys = dataset.column("key")
    for scene in scenes:
        members = tuple(keys[row] for row in scene)
        message = f"{len(scene)} images look alike (a fixed camera?); too many to be copies, not kept together"
        yield Finding.of(Code.NEAR_DUPLICATE, members[0], message, members)


def check_look_alikes(dataset: Dataset, groups: Sequence[Sequence[int]]) -> Iterator[Finding]:
    """Report images that look the same, and whether they are in several splits; ``groups`` has rows."""
    keys, splits = dataset.column("key"), dataset.column("split")
    for group in groups:
        members = tuple(keys[row] for row in group)
        unlike = f"; {_differing(dataset, group)}" if conflicting_copies([group], dataset.label_array()) else ""
        first_of = {splits[row]: keys[row] for row in reversed(group) if splits[row] in GIVEN_SPLITS}
        if len(first_of) > 1:
            where = " and ".join(f"{split} ({first_of[split]})" for split in GIVEN_SPLITS if split in first_of)
            message = f"{len(group)} images that look the same are in {where}{unlike}; check them on the card"
            yield Finding.of(Code.NEAR_LEAK, members[0], message, members)
        else:
            message = f"looks the same as {_some(members[1:])}{unlike}; kept together when splits are cut"
            yield Finding.of(Code.NEAR_DUPLICATE, members[0], message, members)
