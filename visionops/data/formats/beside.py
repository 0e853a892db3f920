"""Report files beside the labelled images that are left out: one finding per kind, with a count and examples.

Kinds: images without labels, masks, images that no installed library reads, labels without an image, files whose names
are not Unicode, and hidden or system files.
"""

from __future__ import annotations

import collections
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from visionops.data.findings import Code, Finding, counted
from visionops.data.formats.mask_names import count_mask_folders, without_mask_mark
from visionops.data.listing import Listing, folder_of, stem_of, suffix_of
from visionops.errors import ImageError
from visionops.inference.image_types import HAS_HEIF, UNREADABLE_IMAGE_SUFFIXES

__all__ = ["find_masks", "report_beside"]

_MOST_GREY_LEVELS = 16
_EXTREME_SHARE = 0.9
"""Minimum share of black, white or nearly such pixels in a mask with soft edges."""
_SAMPLE = 40
"""Number of pairs of one pattern to decode before the rest is assumed to be alike."""
_MOST_PARTNERS = 4
"""Maximum number of images with one stem to compare a mask with: some projects number images per class from 1."""


def report_beside(
    listing: Listing,
    claimed: Collection[str],
    findings: list[Finding],
    *,
    labels: Iterable[str] = (),
    within: Sequence[str] = ("",),
    orphans: bool = True,
) -> None:
    """Add a finding for each kind of file that is left out.

    Args:
        listing: All files.
        claimed: Image files that belong to the data set, or that a finding already names.
        findings: List that receives the findings.
        labels: Label files without an image.
        within: Prefixes of the files that belong to the data set.
        orphans: Whether to report images that are neither claimed nor masks; False if they are for batch inference.
    """
    concerned = tuple(within)
    rest = [name for name in listing.images if name not in claimed and name.startswith(concerned)]
    known = find_masks(listing) if rest else {}
    masks = [name for name in rest if name in known]
    _report(findings, Code.MASK_IMAGE, masks, "a mask, by its name, size and few grey levels; it is left out")
    if orphans:
        strays = [name for name in rest if name not in known]
        _report(findings, Code.ORPHAN_IMAGE, strays, "no label names it; it is left out; label or remove it")
    suffixes = UNREADABLE_IMAGE_SUFFIXES.keys() & listing.by_suffix.keys()
    unreadable = [
        name
        for name in (listing.files if suffixes else ())
        if suffix_of(name) in suffixes and name not in claimed and name.startswith(concerned)
    ]
    types = ", ".join(sorted({UNREADABLE_IMAGE_SUFFIXES[suffix_of(name)] for name in unreadable}))
    also = ", or install pillow-heif" if "HEIC" in types and not HAS_HEIF else ""
    _report(
        findings,
        Code.UNREADABLE_IMAGE,
        unreadable,
        f"of a type that no installed library reads ({types}); it is left out; convert it to PNG or JPEG{also}",
    )
    _report(findings, Code.UNKNOWN_IMAGE, list(labels), "no image for these labels; add it or remove the file")
    message = "the name is not Unicode; it is left out; rename the file, or its folder"
    _report(findings, Code.UNSAFE_NAME, list(listing.garbled), message)
    _report(findings, Code.SYSTEM_FILE, list(listing.hidden), "hidden or a system file; it is ignored")


def _report(findings: list[Finding], code: Code, names: list[str], message: str) -> None:
    if names:
        shown = names[0] if len(names) == 1 else f"{names[0]} and {counted(len(names) - 1, 'more', 'more')}"
        also = f" ({len(names)} files: {', '.join(names[:3])}{', …' if len(names) > 3 else ''})" if names[1:] else ""
        images = tuple(names) if code in (Code.MASK_IMAGE, Code.ORPHAN_IMAGE) else ()
        findings.append(Finding.of(code, shown, f"{message}{also}", images))


def find_masks(listing: Listing) -> dict[str, str]:
    """Find images that are masks of another image: pixels that mark objects. A listing is searched only once.

    A mask shares the stem of its image (``a.jpg`` and ``a.png``), adds a word to it (``a_mask.png``), or has the same
    stem in a folder of masks. It has the size of the image, and at most 16 grey levels or, with soft edges, at least
    90 % of its pixels black or white. Its image has more levels than that.

    Returns:
        A mapping of masks to their images.
    """
    if listing.masks is not None:
        return listing.masks
    by_stem: dict[str, list[str]] = collections.defaultdict(list)
    by_tail: dict[str, list[str]] = collections.defaultdict(list)
    for name in listing.images:
        stem = stem_of(name).casefold()
        by_stem[stem].append(name)
        by_tail[stem.rpartition("/")[2]].append(name)
    pairs: dict[tuple[str, str], list[tuple[str, str]]] = collections.defaultdict(list)
    for name in listing.images:
        pattern, partners = _partners(name, by_stem, by_tail)
        for partner in partners:
            pairs[folder_of(name), f"{pattern} {suffix_of(name)} {suffix_of(partner)}"].append((name, partner))
    masks: dict[str, str] = {}
    for group in pairs.values():
        step = max(1, len(group) // _SAMPLE)
        sample = group[::step]
        verdicts = [_is_mask_of(listing, *pair) for pair in sample]
        if all(verdicts):
            masks.update(group)
        elif any(verdicts):
            masks.update(pair for pair in group if _is_mask_of(listing, *pair))
    listing.masks = masks
    return masks


def _partners(name: str, by_stem: dict[str, list[str]], by_tail: dict[str, list[str]]) -> tuple[str, list[str]]:
    stem = stem_of(name).casefold()
    same = [other for other in by_stem[stem] if other != name]
    if same:
        return "same stem", same
    head, slash, tail = stem.rpartition("/")
    short = without_mask_mark(tail)
    if short != tail and short:
        found = [other for other in by_stem.get(f"{head}{slash}{short}", ()) if other != name]
        return "marked stem", found or _elsewhere(name, by_tail.get(short, ()))
    if count_mask_folders(head):
        return "folder of masks", _elsewhere(name, by_tail[tail])
    return "", []


def _elsewhere(name: str, others: Iterable[str]) -> list[str]:
    """Return images with that stem in fewer mask folders: a few with the longest common path."""
    own = _Place.of(name)
    fewer = own.masks or 1
    outside = [(other, place) for other in others if other != name and (place := _Place.of(other)).masks < fewer]
    best = max((len(own.parts & place.parts) for _, place in outside), default=0)
    return [other for other, place in outside if len(own.parts & place.parts) == best][:_MOST_PARTNERS]


class _Place(NamedTuple):
    """Place of a file."""

    parts: frozenset[str]
    """Folders of its path that are not mask folders, folded."""
    masks: int
    """Number of folders of its path that may be mask folders."""

    @classmethod
    def of(cls, name: str) -> _Place:
        folder = folder_of(name).casefold()
        parts = frozenset(part for part in folder.split("/") if not count_mask_folders(part))
        return cls(parts, count_mask_folders(folder))


def _is_mask_of(listing: Listing, name: str, image: str) -> bool:
    try:
        mask, picture = _grey(listing.path(name)), _grey(listing.path(image))
    except (OSError, ValueError, ImageError, SyntaxError, Image.DecompressionBombError):
        return False
    return mask.shape == picture.shape and _looks_like_mask(mask) and not _looks_like_mask(picture)


def _grey(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(path) as image:
        # Palette indices are the labels of a colour-coded mask; converted colours would merge into one grey.
        return np.asarray(image if image.mode in ("L", "P", "1") else image.convert("L")).astype(np.uint8)


def _looks_like_mask(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bool:
    counts = np.bincount(pixels.ravel(), minlength=256)
    if np.count_nonzero(counts) <= _MOST_GREY_LEVELS:
        return True
    return bool((counts[:16].sum() + counts[240:].sum()) >= _EXTREME_SHARE * counts.sum() and counts[:16].sum())
