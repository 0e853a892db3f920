"""The words by which folders and files say which split they are."""

from __future__ import annotations

import re

from visionops.data.dataset import Split

__all__ = ["SPLIT_WORDS", "split_in_name", "split_of_folders"]

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
"""Lower-case word to split."""

_WORD = re.compile(r"[a-z]+")


def split_in_name(name: str) -> Split:
    """The split that one word of a name says (``instances_train2017.json``); ``NONE`` for none or several."""
    found = {SPLIT_WORDS[word] for word in _WORD.findall(name.lower()) if word in SPLIT_WORDS}
    return found.pop() if len(found) == 1 else Split.NONE


def split_of_folders(name: str) -> Split:
    """The split that the folders of a file say: one that is called after it, else one with its word in the name."""
    parts = name.split("/")[:-1]
    exact = {SPLIT_WORDS[part.lower()] for part in parts if part.lower() in SPLIT_WORDS}
    found = exact or {split for part in parts if (split := split_in_name(part))}
    found.discard(Split.UNLABELLED)
    return found.pop() if len(found) == 1 else Split.NONE
