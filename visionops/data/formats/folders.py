"""Read image folders: the folder of an image is its class, ``{class}/…`` or ``{train,val,test}/{class}/…``.

Split folders are recognized by their names in any case, and by the class folders inside them; images in a folder
``unlabelled`` or ``inference`` beside them are for batch inference. Folders inside a class folder belong to it.
"""

from __future__ import annotations

import collections
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from visionops.data.dataset import Dataset, Split
from visionops.data.files import FileInfo, describe_os_error, safe_name
from visionops.data.findings import Code, Finding, counted
from visionops.data.formats import mvtec
from visionops.data.formats.assembly import examples
from visionops.data.formats.beside import find_masks, report_beside
from visionops.data.formats.mask_names import is_kind_of_images
from visionops.data.formats.protocol import Evidence, Strength
from visionops.data.formats.rules import DROPPED, OUTSIDE, LabelReader, list_names
from visionops.data.formats.splits import SPLIT_WORDS
from visionops.data.label_rules import raw_key
from visionops.data.layers import LABELS
from visionops.data.listing import Listing, folder_of, is_hidden
from visionops.data.settings import DataConfig
from visionops.errors import AnnotationError, DataError

__all__ = ["detect", "read"]

_DEFAULT_NAME = "class"
_LABEL_SUFFIXES = (".json", ".jsonl", ".ndjson", ".manifest", ".xml", ".csv", ".tsv", ".xlsx", ".parquet", ".mat")
"""Suffixes of files that are not read here, although they may hold labels."""


class _ClassFolder(NamedTuple):
    place: str
    """Relative POSIX path."""
    raw: str
    """Its own name."""
    split: Split


def detect(listing: Listing, data: DataConfig) -> Evidence | None:
    """Find at least two class folders with images, none of which is named after the kind of its content."""
    del data
    images = _photographs(listing)
    base = _base_of(images)
    tops = _folders_with_images(images, base)
    splits = [top for split in Split for top in tops if SPLIT_WORDS.get(top.casefold()) is split]
    classes = sorted({sub for top in splits for sub in _folders_with_images(images, _join(base, top))}) or [
        top for top in tops if top not in splits
    ]
    if len(classes) < 2 or any(map(is_kind_of_images, classes)):
        return None
    where = f"{', '.join(splits)}, each with " if splits else ""
    what = f"image folders, {where}{counted(len(classes), 'class', 'classes')}"
    seen = f"{base or '.'}: the folders {list_names(classes)} hold images"
    return Evidence(Strength.WEAK, what, (seen,), layer=LABELS)


def read(listing: Listing, data: DataConfig, name: str) -> Dataset:
    """Read the class folders below the root, or below its only folder.

    ``data.labels`` has at most one entry: the name of the attribute, and the rule from folder names to classes. Without
    it the attribute is "class" and each folder a class, in alphabetical order. Masks beside the images are left out.
    """
    if (evidence := mvtec.detect(listing, data)) is not None:
        raise AnnotationError(mvtec.refusal(listing, evidence))
    attribute, rule = next(iter(data.labels.items()), (_DEFAULT_NAME, None))
    given = LabelReader.by_rule(attribute, rule) if rule else None
    masks = find_masks(listing)
    base = _base_of(_photographs(listing))
    folders, unlabelled = _find_folders(listing.root, base, given, _folders_of_masks(listing, masks))
    files: dict[str, list[FileInfo]] = collections.defaultdict(list)
    deep = any(folder.split is not Split.NONE for folder in folders)
    findings: list[Finding] = []
    for file in listing.images.values():
        if file.name not in masks:
            files[_folder_of(file.name, base, deep, unlabelled)].append(file)
    if files and not folders:
        raise AnnotationError(
            f"{listing.root}: holds images but no class folders; put each image into the folder of its class"
        )
    filled = [folder for folder in folders if files.get(folder.place)]
    for folder in folders:
        if folder not in filled:
            message = "a class folder without images; add images or remove the folder"
            findings.append(Finding.of(Code.EMPTY_CLASS, folder.place, message))
    reader = given or LabelReader.by_values(attribute, [folder.raw for folder in filled])
    rows = _Rows(findings)
    inner = _splits_inside(filled, files)
    notes = ["The folders inside the class folders are the splits."] if inner else []
    notes += reader.notes([folder.raw for folder in filled], f"{attribute} (folder names)")
    claimed: set[str] = set()
    for folder in filled:
        class_id = reader.class_id(folder.raw)
        inside = files[folder.place]
        claimed.update(file.name for file in inside)
        if class_id == OUTSIDE:
            refusal = reader.refusal(folder.raw, [folder.raw for folder in filled])
            message = f"{refusal} ({counted(len(inside), 'image')} without a class)"
            keys = tuple(file.name for file in inside)
            findings.append(Finding.of(Code.UNKNOWN_LABEL, folder.place, message, keys))
        elif class_id == DROPPED:
            notes.append(
                f"{counted(len(inside), 'image')} of {folder.place} left out, as data.labels.{attribute}.drop says."
            )
        elif class_id < 0:
            rows.add(listing.root, inside, Split.UNLABELLED, None)
        else:
            rows.add(listing.root, inside, folder.split, class_id, inner)
    for place in unlabelled:
        claimed.update(file.name for file in files.get(place, ()))
        rows.add(listing.root, files.get(place, ()), Split.UNLABELLED, None)
    report_beside(listing, claimed, findings)
    return Dataset.from_columns(
        name,
        (),
        rows.columns,
        {},
        notes=[*notes, *_notes_of_unread(listing)],
        findings=findings,
        attributes=[reader.attribute],
        labels={attribute: rows.class_ids},
    )


def _notes_of_unread(listing: Listing) -> list[str]:
    files = [name for suffix in _LABEL_SUFFIXES for name in listing.by_suffix.get(suffix, ())]
    what = f"{counted(len(files), 'file')} that may hold labels not read ({examples(files)}): folders are classes."
    return [what] if files else []


def _splits_inside(folders: Sequence[_ClassFolder], files: Mapping[str, Sequence[FileInfo]]) -> dict[str, Split]:
    """Return a mapping of images to splits, if every image is in a folder of its class that is named after a split."""
    found: dict[str, Split] = {}
    for folder in folders:
        for file in files[folder.place]:
            part, slash, _ = file.name[len(folder.place) + 1 :].partition("/")
            split = SPLIT_WORDS.get(part.casefold(), Split.NONE) if slash else Split.NONE
            if not split or folder.split:
                return {}
            found[file.name] = split
    return found if len(set(found.values())) > 1 else {}


class _Rows:
    def __init__(self, findings: list[Finding]) -> None:
        self.columns: dict[str, list[Any]] = {column: [] for column in ("key", "path", "num_bytes", "split")}
        self.class_ids: list[int | None] = []
        self.findings = findings

    def add(
        self,
        root: Path,
        files: Iterable[FileInfo],
        split: Split,
        class_id: int | None,
        splits: Mapping[str, Split] | None = None,
    ) -> None:
        for file in files:
            if safe_name(file.name) is None:
                message = "the file name has a backslash, a control character or a line break; rename the file"
                self.findings.append(Finding.of(Code.UNSAFE_NAME, repr(file.name), message))
                continue
            own = splits.get(file.name, split) if splits else split
            values = (file.name, f"{root}/{file.name}", file.num_bytes, own.value)
            for column, value in zip(self.columns.values(), values, strict=True):
                column.append(value)
            self.class_ids.append(class_id)


def _photographs(listing: Listing) -> list[str]:
    masks = find_masks(listing)
    return [name for name in listing.images if name not in masks]


def _base_of(images: Sequence[str]) -> str:
    """Return the root, or the single folder below it that holds everything: data sets often have such a wrapper."""
    base = ""
    while True:
        tops = _folders_with_images(images, base)
        if len(tops) != 1 or any(folder_of(name) == base for name in images):
            return base
        inner = _join(base, tops[0])
        if tops[0].casefold() in SPLIT_WORDS or len(_folders_with_images(images, inner)) < 2:
            return base
        base = inner


def _folders_with_images(images: Iterable[str], base: str) -> list[str]:
    """Return the names of the folders directly below ``base`` with an image at any depth."""
    start = f"{base}/" if base else ""
    return sorted(
        {
            name[len(start) :].partition("/")[0]
            for name in images
            if name.startswith(start) and "/" in name[len(start) :]
        }
    )


def _join(base: str, name: str) -> str:
    return f"{base}/{name}" if base else name


def _folders_of_masks(listing: Listing, masks: Mapping[str, str]) -> frozenset[str]:
    """Return the folders with masks and without photographs: they are not classes."""
    held = {folder for name in masks for folder in _parents(name)}
    other = {folder for name in listing.images if name not in masks for folder in _parents(name)}
    return frozenset(held - other)


def _parents(name: str) -> Iterator[str]:
    while name := folder_of(name):
        yield name


def _find_folders(
    root: Path, base: str, reader: LabelReader | None, skipped: frozenset[str]
) -> tuple[list[_ClassFolder], list[str]]:
    """Return the class folders, and the folders of images for batch inference."""

    def inside_of(place: str) -> list[str]:
        return [name for name in _subfolders(root / place) if _join(place, name) not in skipped]

    inside = {top: inside_of(_join(base, top)) for top in inside_of(base)}
    split_of = {top: SPLIT_WORDS[top.casefold()] for top in inside if top.casefold() in SPLIT_WORDS}
    if reader:  # a rule that names the folder takes precedence: "train" may be a vehicle
        split_of = {top: s for top, s in split_of.items() if inside[top] or raw_key(top) not in reader.values}
    waiting = [top for top, split in split_of.items() if split is Split.UNLABELLED]
    unlabelled = [_join(base, top) for top in waiting]
    flat = [top for top, split in split_of.items() if split is not Split.UNLABELLED and not inside[top]]
    splits = [top for top in split_of if top not in waiting and top not in flat]
    if splits:
        folders = [_ClassFolder(_join(base, f"{t}/{sub}"), sub, split_of[t]) for t in splits for sub in inside[t]]
        return folders, unlabelled
    folders = [_ClassFolder(_join(base, top), top, Split.NONE) for top in inside if top not in split_of]
    if flat:
        example = folders[0].raw if folders else "cat"
        raise AnnotationError(
            f"{root / base / flat[0]}: is named as a split but holds no class folders; put images into "
            f"{flat[0]}/{example}, images without labels into a folder 'unlabelled', or name the folder under "
            "data.labels if it is a class"
        )
    return folders, unlabelled


def _subfolders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not is_hidden(entry.name))
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({describe_os_error(error)}); check its permissions") from error


def _folder_of(name: str, base: str, deep: bool, unlabelled: list[str]) -> str:
    """Return the class folder of an image, its folder for batch inference, or the folder where it is misplaced."""
    start = f"{base}/" if base else ""
    if not name.startswith(start):
        return folder_of(name)
    first, *rest = name[len(start) :].split("/")
    if rest and start + first in unlabelled:
        return start + first
    if deep and len(rest) > 1:
        return f"{start}{first}/{rest[0]}"
    return start + first if rest else base
