"""Clean a data set for training: fix the findings of validation that do not stop the run."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from visionops.data.dataset import Dataset
from visionops.data.duplicates import conflicting_copies, copies_of_files, duplicate_boxes
from visionops.data.findings import counted
from visionops.data.validation.box_checks import clip_boxes
from visionops.data.validation.report import ValidationReport
from visionops.errors import DataError

__all__ = ["clean"]


def clean(dataset: Dataset, report: ValidationReport) -> Dataset:
    """Return the data set without unusable content, and with the facts of the decoded images.

    - Unusable images are removed with their boxes.
    - ``width``, ``height`` and ``plain`` are taken from the decoded files, and missing ``sha256`` are filled in.
    - Boxes are clipped to their image as rectangles. Boxes without area, with a coordinate that is not a number, or
      that repeat another box are removed.
    - Of files with identical bytes one is kept: in test, else in val, else in train, and there the first. None is kept
      if their labels contradict each other. Images for inference only (split ``unlabelled``) are compared among
      themselves.
    - ``group`` is set for near duplicates, so that a later split keeps them together.
    - ``white_level`` becomes the one that scales 16-bit samples.

    Rows keep their order. Each kind of change becomes a sentence in ``notes``.

    Args:
        report: The report on this data set.

    Raises:
        DataError: The report is on another data set.
    """
    if report.facts.column("key").to_pylist() != dataset.column("key"):
        raise DataError(f"{dataset.name}: the validation report is of another data set; validate this one")
    notes: list[str] = []
    dataset = _with_facts(dataset, report)
    dataset = _with_groups(dataset, report, notes)
    dataset = _without_unusable(dataset, report, notes)
    dataset = _with_clipped_boxes(dataset, notes)
    dataset = _without_repeated_boxes(dataset, notes)
    dataset = _without_copies(dataset, notes)
    return dataclasses.replace(dataset, notes=(*dataset.notes, *notes), white_level=report.white)


def _with_facts(dataset: Dataset, report: ValidationReport) -> Dataset:
    facts = report.facts
    readable = [not problem for problem in facts.column("problem").to_pylist()]
    for name in ("width", "height", "plain", "phash", "look"):
        real, old = facts.column(name).to_pylist(), dataset.column(name)
        dataset = dataset.replace_column(name, [r if ok else o for r, o, ok in zip(real, old, readable, strict=True)])
    hashes = zip(dataset.column("sha256"), facts.column("sha256").to_pylist(), strict=True)
    return dataset.replace_column("sha256", [known or found for known, found in hashes])


def _with_groups(dataset: Dataset, report: ValidationReport, notes: list[str]) -> Dataset:
    """Put near duplicates into groups; merge groups of the reader that now share an image."""
    row_of = {key: row for row, key in enumerate(dataset.column("key"))}
    groups = dataset.column("group")
    members: dict[str, list[int]] = collections.defaultdict(list)
    for row, group in enumerate(groups):
        if group:
            members[group].append(row)
    for keys in report.near_groups:
        rows = [row_of[key] for key in keys]
        touched = sorted({groups[row] for row in rows if groups[row]})
        name = touched[0] if touched else f"alike:{keys[0]}"
        for row in sorted({*rows, *(row for group in touched for row in members[group])}):
            groups[row] = name
            members[name].append(row)
    if report.near_groups:
        images = counted(sum(map(len, report.near_groups)), "image")
        notes.append(f"{images} in {counted(len(report.near_groups), 'group')} of near duplicates kept together.")
    return dataset.replace_column("group", groups)


def _without_unusable(dataset: Dataset, report: ValidationReport, notes: list[str]) -> Dataset:
    problems = report.facts.column("problem").to_pylist()
    rows = [row for row, problem in enumerate(problems) if not problem]
    if len(rows) == dataset.num_images:
        return dataset
    kinds = collections.Counter(problem for problem in problems if problem)
    why = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
    notes.append(f"{counted(dataset.num_images - len(rows), 'unusable image')} left out ({why}).")
    return dataset.take(rows)


def _with_clipped_boxes(dataset: Dataset, notes: list[str]) -> Dataset:
    rows, _, boxes = dataset.box_arrays()
    if not len(rows):
        return dataset
    sizes = np.column_stack([dataset.column("width"), dataset.column("height")])[rows]
    clipped = clip_boxes(boxes, sizes)
    good = np.asarray(np.isfinite(boxes).all(axis=1) & ((clipped[:, 2:] - clipped[:, :2]) > 0).all(axis=1))
    moved = int(np.sum(good & (clipped != boxes).any(axis=1)))
    if moved:
        notes.append(f"{counted(moved, 'box', 'boxes')} clipped to the image.")
    if not good.all():
        notes.append(f"{counted(int(np.sum(~good)), 'box', 'boxes')} without area inside the image left out.")
    table = dataset.boxes
    for index, name in enumerate(("x1", "y1", "x2", "y2")):
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(clipped[:, index]))
    return _with_boxes(dataset.with_boxes(table), good)


def _without_repeated_boxes(dataset: Dataset, notes: list[str]) -> Dataset:
    repeated = [box for box, _ in duplicate_boxes(*dataset.box_arrays())]
    if not repeated:
        return dataset
    notes.append(f"{counted(len(repeated), 'repeated box', 'repeated boxes')} left out.")
    keep = np.ones(dataset.num_boxes, dtype=bool)
    keep[repeated] = False
    return _with_boxes(dataset, keep)


def _with_boxes(dataset: Dataset, keep: npt.NDArray[np.bool_]) -> Dataset:
    return dataset.with_boxes(dataset.boxes.filter(pa.array(keep)))


def _without_copies(dataset: Dataset, notes: list[str]) -> Dataset:
    splits = dataset.column("split")
    leaks: collections.Counter[tuple[str, str]] = collections.Counter()
    dropped: set[int] = set()
    copies = copies_of_files(dataset.column("sha256"), splits)
    for rows in conflicting_copies(copies, dataset.label_array()):
        dropped.update(rows)
    if dropped:
        notes.append(f"{counted(len(dropped), 'image')} left out: the same file has different labels.")
    for kept, *others in copies:
        if kept in dropped:
            continue
        dropped.update(others)
        leaks.update((splits[row], splits[kept]) for row in others)
    repeats = sum(leaks.pop(pair) for pair in list(leaks) if pair[0] == pair[1])
    for (loser, keeper), count in sorted(leaks.items()):
        where = loser or "no split"
        notes.append(f"{counted(count, 'image')} of {where} left out: the same file is in {keeper}, which keeps it.")
    if repeats:
        notes.append(f"{counted(repeats, 'repeated file')} within one split left out; the first stays.")
    return dataset.take([row for row in range(dataset.num_images) if row not in dropped]) if dropped else dataset
