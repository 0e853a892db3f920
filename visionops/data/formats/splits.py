"""Recognize splits by the words in names of folders and files."""

from __future__ import annotations

import functools
import re

from visionops.data.dataset import Split

__all__ = ["SPLIT_WORDS", "split_in_name", "split_of_file", "split_of_folders"]

SPLIT_WORDS = {
    "train": Split.TRAIN,
    "training": Split.TRAIN,
    "val": Split.VAL,
    "valid": Split.VAL,
    "validation": Split.VAL,
    "dev": Split.VAL,
    "test": Split.TEST,
    "testing": Split.TEST,
    "unlabelled": Split.UNLABELLED,
    "unlabeled": Split.UNLABELLED,
    "inference": Split.UNLABELLED,
}
"""Maps a lower-case word to its split."""

_WORD = re.compile(r"[a-z]+")


def split_in_name(name: str) -> Split:
    """Return the split that a word of a name gives (``instances_train2017.json``); ``NONE`` for none or several."""
    found = {SPLIT_WORDS[word] for word in _WORD.findall(name.lower()) if word in SPLIT_WORDS}
    return found.pop() if len(found) == 1 else Split.NONE


def split_of_folders(name: str, *, unlabelled: bool = False) -> Split:
    """Return the split that a file's folders give: one named after a split, else one with its word in the name.

    Args:
        unlabelled: Whether ``unlabelled`` counts, for files that may have no labels.

    Returns:
        The split, or ``NONE`` if the folders give none, or several.
    """
    return _split_of_path(name.rpartition("/")[0].lower(), unlabelled)


def split_of_file(name: str, *, unlabelled: bool = False) -> Split:
    """Return the split of an annotation file: from a word of its name, else from its folders (`split_of_folders`)."""
    stem = name.rpartition("/")[2].rpartition(".")[0]
    return split_in_name(stem) or split_of_folders(name, unlabelled=unlabelled)


@functools.lru_cache(maxsize=4096)
def _split_of_path(folder: str, unlabelled: bool) -> Split:
    parts = folder.split("/")
    exact = {SPLIT_WORDS[part] for part in parts if part in SPLIT_WORDS}
    found = exact or {split for part in parts if (split := split_in_name(part))}
    if not unlabelled:
        found.discard(Split.UNLABELLED)
    return found.pop() if len(found) == 1 else Split.NONE
