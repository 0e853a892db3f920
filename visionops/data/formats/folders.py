"""Image folders: the folder an image lies in is its class, ``{class}/…`` or ``{train,val,test}/{class}/…``.

Folders for splits are told by their names, whatever their case, and by the class folders inside them; images in a
folder ``unlabelled`` or ``inference`` beside them are for batch inference. Folders inside a class folder belong to it.
"""

from __future__ import annotations

import collections
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from visionops.config import LabelRule, raw_key
from visionops.data.dataset import Dataset, Split
from visionops.data.files import FileInfo, describe_os_error, safe_name, walk_files
from visionops.data.findings import Code, Finding, counted
from visionops.data.formats.rules import DROPPED, OUTSIDE, LabelReader, list_names
from visionops.errors import AnnotationError, DataError

__all__ = ["read_folders"]

_DEFAULT_NAME = "class"
_SPLITS = {
    "train": Split.TRAIN,
    "training": Split.TRAIN,
    "val": Split.VAL,
    "valid": Split.VAL,
    "validation": Split.VAL,
    "test": Split.TEST,
    "testing": Split.TEST,
    "unlabelled": Split.UNLABELLED,
    "unlabeled": Split.UNLABELLED,
    "inference": Split.UNLABELLED,
}


class _ClassFolder(NamedTuple):
    place: str
    """Relative POSIX path."""
    raw: str
    """Its own name."""
    split: Split


def read_folders(root: Path, name: str, labels: Mapping[str, LabelRule]) -> Dataset:
    """Read the class folders below ``root``.

    Args:
        labels: At most one: the name of the attribute, and the rule from folder names to classes. Without it the
            attribute is "class", each folder a class, in alphabetical order.

    Raises:
        AnnotationError: There are no class folders, or it cannot be told which folders are classes.
    """
    attribute, rule = next(iter(labels.items()), (_DEFAULT_NAME, None))
    given = LabelReader.by_rule(attribute, rule) if rule else None
    folders, unlabelled = _find_folders(root, given)
    files: dict[str, list[FileInfo]] = collections.defaultdict(list)
    deep = any(folder.split is not Split.NONE for folder in folders)
    findings: list[Finding] = []
    for file in walk_files(root):
        if file.is_image:
            files[_folder_of(file.name, deep, unlabelled)].append(file)
    if files and not folders:
        raise AnnotationError(f"{root}: holds images but no class folders; put each image into the folder of its class")
    filled = [folder for folder in folders if files.get(folder.place)]
    for folder in folders:
        if folder not in filled:
            message = "a class folder without images; add images or remove the folder"
            findings.append(Finding.of(Code.EMPTY_CLASS, folder.place, message))
    reader = given or LabelReader.by_values(attribute, _spelled_once(root, filled))
    rows = _Rows(findings)
    notes = []
    for folder in filled:
        class_id = reader.class_id(folder.raw)
        inside = files.pop(folder.place)
        if class_id == OUTSIDE:
            message = f"{reader.refusal(folder.raw)}; {counted(len(inside), 'image')} left out"
            keys = tuple(file.name for file in inside)
            findings.append(Finding.of(Code.UNKNOWN_LABEL, folder.place, message, keys))
        elif class_id == DROPPED:
            notes.append(
                f"{counted(len(inside), 'image')} of {folder.place} left out, as data.labels.{attribute}.drop says."
            )
        elif class_id < 0:
            rows.add(root, inside, Split.UNLABELLED, None)
        else:
            rows.add(root, inside, folder.split, class_id)
    for place in unlabelled:
        rows.add(root, files.pop(place, ()), Split.UNLABELLED, None)
    for place, stray in sorted(files.items()):
        message = f"{counted(len(stray), 'image')} in no class folder, left out; move into one, or remove"
        keys = tuple(file.name for file in stray)
        findings.append(Finding.of(Code.ORPHAN_IMAGE, place or root.name, message, keys))
    return Dataset.from_columns(
        name,
        (),
        rows.columns,
        {},
        notes=notes,
        findings=findings,
        attributes=[reader.attribute],
        labels={attribute: rows.class_ids},
    )


class _Rows:
    def __init__(self, findings: list[Finding]) -> None:
        self.columns: dict[str, list[Any]] = {column: [] for column in ("key", "path", "num_bytes", "split")}
        self.class_ids: list[int | None] = []
        self.findings = findings

    def add(self, root: Path, files: Iterable[FileInfo], split: Split, class_id: int | None) -> None:
        for file in files:
            if safe_name(file.name) is None:
                message = "the file name has a backslash or a control character; rename the file"
                self.findings.append(Finding.of(Code.UNSAFE_NAME, repr(file.name), message))
                continue
            values = (file.name, f"{root}/{file.name}", file.num_bytes, split.value)
            for column, value in zip(self.columns.values(), values, strict=True):
                column.append(value)
            self.class_ids.append(class_id)


def _find_folders(root: Path, reader: LabelReader | None) -> tuple[list[_ClassFolder], list[str]]:
    """The class folders, and the folders of images for batch inference."""
    inside = {top: _subfolders(root / top) for top in _subfolders(root)}
    split_of = {top: _SPLITS[top.casefold()] for top in inside if top.casefold() in _SPLITS}
    if reader:  # a rule that names the folder knows better: "train" may be a vehicle
        split_of = {top: s for top, s in split_of.items() if inside[top] or raw_key(top) not in reader.values}
    unlabelled = [top for top, split in split_of.items() if split is Split.UNLABELLED]
    flat = [top for top, split in split_of.items() if split is not Split.UNLABELLED and not inside[top]]
    splits = [top for top in split_of if top not in unlabelled and top not in flat]
    if splits:
        folders = [_ClassFolder(f"{top}/{sub}", sub, split_of[top]) for top in splits for sub in inside[top]]
        return folders, unlabelled
    folders = [_ClassFolder(top, top, Split.NONE) for top in inside if top not in split_of]
    if flat:
        example = folders[0].raw if folders else "cat"
        raise AnnotationError(
            f"{root / flat[0]}: is named as a split but holds no class folders; put images into {flat[0]}/{example}, "
            "images without labels into a folder 'unlabelled', or name the folder under data.labels if it is a class"
        )
    return folders, unlabelled


def _subfolders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({describe_os_error(error)}); check its permissions") from error


def _folder_of(name: str, deep: bool, unlabelled: list[str]) -> str:
    """Of an image: its class folder, its folder for batch inference, or the folder it should not lie in."""
    first, *rest = name.split("/")
    if first in unlabelled and rest:
        return first
    if deep and len(rest) > 1:
        return f"{first}/{rest[0]}"
    return first if rest else ""


def _spelled_once(root: Path, folders: list[_ClassFolder]) -> list[str]:
    """The names of folders, if no two mean the same class."""
    spellings: dict[str, set[str]] = collections.defaultdict(set)
    for folder in folders:
        spellings[folder.raw.casefold()].add(folder.raw)
    for names in spellings.values():
        if len(names) > 1:
            raise AnnotationError(
                f"{root}: {list_names(sorted(names))} differ only in case; give one class one name, or map them under "
                "data.labels"
            )
    return [folder.raw for folder in folders]
