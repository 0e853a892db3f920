"""Recognize MVTec AD's layout: good parts for training, good and bad ones for testing, masks of the defects.

``train/good``, ``test/{good,scratch,…}`` and ``ground_truth/{scratch,…}``, at the root or in a folder for each
category. It is recognized and refused: a classifier cannot be trained on good parts alone.
"""

from __future__ import annotations

from visionops.data.dataset import Dataset
from visionops.data.findings import counted
from visionops.data.formats.protocol import Evidence, Strength
from visionops.data.formats.rules import list_names
from visionops.data.layers import LABELS
from visionops.data.listing import Listing
from visionops.data.settings import DataConfig
from visionops.errors import AnnotationError

__all__ = ["detect", "read", "refusal"]

_GOOD = frozenset({"good", "ok", "normal"})


def detect(listing: Listing, data: DataConfig) -> Evidence | None:
    """Find training images that are all good beside test images that are not."""
    del data
    classes: dict[str, dict[str, set[str]]] = {}
    for name in listing.images:
        parts = name.split("/")[:-1]
        for at, part in enumerate(parts[:-1]):
            if part.casefold() in ("train", "test"):
                place = "/".join(parts[:at])
                classes.setdefault(place, {}).setdefault(part.casefold(), set()).add(parts[at + 1].casefold())
                break
    found = {
        place: sorted(splits["test"] - _GOOD)
        for place, splits in classes.items()
        if len(splits) == 2 and splits["train"] <= _GOOD and splits["test"] - _GOOD
    }
    if not found or len(found) < len(classes):
        return None
    masks = any("ground_truth" in folder.casefold() for folder in listing.folders)
    what = "MVTec AD layout" + (f", {counted(len(found), 'category', 'categories')}" if "" not in found else "")
    place, defects = next(iter(found.items()))
    start = f"{place}/" if place else ""
    reasons = (
        f"{start}train/ holds good parts only",
        f"{start}test/ has {list_names(defects)}, too" + (", with masks in ground_truth/" if masks else ""),
    )
    return Evidence(Strength.SURE, what, reasons, layer=LABELS)


def read(listing: Listing, data: DataConfig, name: str) -> Dataset:
    """Refuse to read it, with the reason.

    Raises:
        AnnotationError: Always.
    """
    del name
    evidence = detect(listing, data)
    raise AnnotationError(
        refusal(listing, evidence)
        if evidence
        else f"{listing.root}: not the layout of MVTec AD (train/good, test/good, test/<defect>); set data.format: auto"
    )


def refusal(listing: Listing, evidence: Evidence) -> str:
    """Return why this layout is not supported yet, and what to do."""
    return (
        f"{listing.root}: {evidence.summary} ({'; '.join(evidence.reasons)}): anomaly detection is not "
        "supported yet; for classification, put images of every class into train/ as well"
    )
