"""Read the VISION layout: a COCO file for each product and split, ``{product}/{split}/_annotations.coco.json``.

Splits are ``train``, ``val`` or ``valid``, ``test``, and ``inference``, whose images are not labelled. Roboflow's COCO
export is a single product.
"""

from __future__ import annotations

from typing import Any

from visionops.data.dataset import Dataset, Split
from visionops.data.findings import counted
from visionops.data.formats.coco_json import CocoFiles, CocoPart, load_coco
from visionops.data.formats.protocol import Evidence, Strength
from visionops.data.listing import Listing
from visionops.data.settings import DataConfig
from visionops.errors import AnnotationError, DataError
from visionops.suggestions import suggest_name

__all__ = ["ANNOTATION_FILE", "detect", "products_in", "read"]

ANNOTATION_FILE = "_annotations.coco.json"
"""Name of the annotation file beside the images."""

# In reading order: the first spelling of a class name, and the order of classes, come from train. Exports of labelling
# tools call their folders "valid" and "test".
_SPLIT_FOLDERS = {
    "train": Split.TRAIN,
    "val": Split.VAL,
    "valid": Split.VAL,
    "test": Split.TEST,
    "inference": Split.UNLABELLED,
}


def detect(listing: Listing, data: DataConfig) -> Evidence | None:
    """Find annotation files with that name in folders of splits."""
    del data
    products = products_in(listing)
    if not products:
        return None
    files = [name for name in listing.files if name.endswith(f"/{ANNOTATION_FILE}") or name == ANNOTATION_FILE]
    roboflow = any(name.startswith("README.roboflow") for name in listing.files)
    shape = "Roboflow COCO" if roboflow else "COCO, a file for each split (VISION shape)"
    what = f"{shape}, {counted(len(products), 'product')}" if list(products.values()) != [""] else shape
    return Evidence(Strength.SURE, what, tuple(f"{name} is there" for name in files[:3]))


def read(listing: Listing, data: DataConfig, name: str) -> Dataset:
    """Read the products in ``data.products``, or all.

    ``inference`` is unlabelled, or test if it has annotations. Classes are those of all selected products, in the order
    of products, splits and category ids.
    """
    prefixes = _chosen(listing, data.products)
    coco = CocoFiles(listing, crowds_are_objects=data.crowds == "objects")
    places: list[str] = []
    parts: list[CocoPart] = []
    for prefix in prefixes:
        for folder, split in _SPLIT_FOLDERS.items():
            place = f"{prefix}{folder}/"
            if f"{prefix}{folder}" not in listing.folders:
                continue
            places.append(place)
            file = place + ANNOTATION_FILE
            raw = load_coco(listing, file) if file in listing.files else _unlabelled(listing, place, split)
            is_test = split is Split.UNLABELLED and bool(raw["annotations"])
            if is_test:
                coco.assembly.notes.append(f"{place} has annotations and is taken as the test split.")
            parts.append(CocoPart(raw, file, ((place,),), Split.TEST if is_test else split))
    coco.add(parts)
    return coco.dataset(name, within=tuple(places))


def products_in(listing: Listing) -> dict[str, str]:
    """Return a mapping of products to the prefix of their files (``Steel/``, or ``""`` if the root is a product)."""
    at_root = any(f"{split}/{ANNOTATION_FILE}" in listing.files for split in _SPLIT_FOLDERS)
    if at_root:
        return {listing.root.name: ""}
    tops = dict.fromkeys(folder for folder in sorted(listing.folders) if "/" not in folder)
    return {
        top: f"{top}/"
        for top in tops
        if any(f"{top}/{split}/{ANNOTATION_FILE}" in listing.files for split in _SPLIT_FOLDERS)
    }


def _chosen(listing: Listing, wanted: tuple[str, ...] | None) -> list[str]:
    found = products_in(listing)
    if not found:
        raise AnnotationError(
            f"{listing.root}: no {{product}}/{{train,val,inference}}/{ANNOTATION_FILE} below it; "
            "check data.source.path, or set data.format to auto"
        )
    for product in wanted or ():
        if product not in found:
            hint = suggest_name(product, found, "there are")
            raise DataError(f"data.products: {listing.root} has no product {product!r}; {hint}")
    return [prefix for product, prefix in found.items() if wanted is None or product in wanted]


def _unlabelled(listing: Listing, place: str, split: Split) -> dict[str, Any]:
    """Return the images of a folder without an annotation file."""
    files = [name for name in listing.images if name.startswith(place)]
    if files and split is not Split.UNLABELLED:
        raise AnnotationError(
            f"{listing.path(place + ANNOTATION_FILE)}: not found, though {len(files)} images are beside it; add the "
            "file or remove the folder"
        )
    entries = [{"id": i, "file_name": name.removeprefix(place)} for i, name in enumerate(files)]
    return {"images": entries, "annotations": [], "categories": []}
