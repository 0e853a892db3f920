"""Find COCO files with any name in any folder, their splits, and the folders of their images."""

from __future__ import annotations

import re
from typing import Any

from visionops.data.dataset import Dataset, Split
from visionops.data.findings import counted
from visionops.data.formats.assembly import examples
from visionops.data.formats.coco_json import CocoFiles, CocoPart, is_coco, load_coco
from visionops.data.formats.names import Bases
from visionops.data.formats.protocol import Evidence, Strength
from visionops.data.formats.splits import split_of_file
from visionops.data.formats.vision import products_in
from visionops.data.listing import Listing, folder_of, stem_of
from visionops.data.settings import DataConfig
from visionops.errors import AnnotationError

__all__ = ["detect", "read"]

_MOST_SAMPLED = 40
"""Maximum number of JSON files to inspect; more indicate one file per image, which is not COCO."""
_OTHER_TASKS = ("captions", "person_keypoints", "panoptic", "stuff", "image_info")
"""Names of files for COCO's other tasks, beside ``instances``."""
_INSTANCES = re.compile(r"^instances_(.+)$", re.IGNORECASE)


def detect(listing: Listing, data: DataConfig) -> Evidence | None:
    """Find COCO files by their content."""
    if data.annotations is None and products_in(listing):
        return None  # the VISION layout has its own reader
    files = _find_files(listing, data)
    if not files:
        return None
    subsets = [match[1] for f in files if (match := _INSTANCES.match(_stem(f)))]
    maker = _maker(listing.read_json(files[0], keep=True), files, listing)
    what = f"{maker}, {counted(len(files), 'subset' if len(subsets) == len(files) else 'file')}"
    reasons = tuple(f"{file} has images, annotations and categories" for file in files[:3])
    settings: dict[str, Any] = {"annotations": data.annotations} if data.annotations is not None else {}
    return Evidence(Strength.SURE, what, reasons, settings=settings)


def read(listing: Listing, data: DataConfig, name: str) -> Dataset:
    """Read all COCO files, or those in ``data.annotations``.

    File names are relative to the folder of the JSON file, or match as in `visionops.data.formats.names`. With several
    files, each file name gives the split (``instances_val2017.json``); a single file gives none.
    """
    files = _chosen(listing, data) or _find_files(listing, data)
    if not files:
        _explain_absence(listing)
    files = _of_one_task(listing, files)
    coco = CocoFiles(listing, crowds_are_objects=data.crowds == "objects")
    several = len(files) > 1
    splits = [split_of_file(file, unlabelled=True) if several else Split.NONE for file in files]
    order = sorted(zip(splits, files, strict=True), key=lambda pair: _ORDER.index(pair[0]))
    contents = {file: load_coco(listing, file) for _, file in order}
    for file, raw in contents.items():
        _refuse_other_labels(listing, file, raw)
    coco.add([CocoPart(contents[file], file, _bases(file), split) for split, file in order])
    return coco.dataset(name)


_ORDER = (Split.TRAIN, Split.VAL, Split.TEST, Split.NONE, Split.UNLABELLED)


def _wanted(data: DataConfig) -> tuple[str, ...]:
    """Return the configured files as relative POSIX paths."""
    names = (data.annotations,) if isinstance(data.annotations, str) else data.annotations or ()
    return tuple(name.replace("\\", "/").removeprefix("./") for name in names)


def _chosen(listing: Listing, data: DataConfig) -> list[str]:
    """Return the configured files; raise if one is missing."""
    files = []
    for name in _wanted(data):
        file = listing.find(name)
        if file is None:
            found = examples(listing.by_suffix.get(".json", ()), 5) or "none"
            raise AnnotationError(
                f"{listing.path(name)}: not found; set data.annotations (JSON files in {listing.root}: {found})"
            )
        files.append(file)
    return files


def _find_files(listing: Listing, data: DataConfig) -> list[str]:
    """Return the COCO files, sorted by name."""
    found = listing.by_suffix.get(".json", [])
    if data.annotations is not None:
        found = [file for name in _wanted(data) if (file := listing.find(name))]
    if len(found) > _MOST_SAMPLED:  # inspect the largest: a COCO file is larger than a file for one image
        found = sorted(found, key=lambda name: -listing.files[name].num_bytes)[:_MOST_SAMPLED]
    return sorted(name for name in found if _is_coco_file(listing, name))


def _is_coco_file(listing: Listing, name: str) -> bool:
    try:
        return is_coco(listing.read_json(name, keep=True))
    except AnnotationError:
        return False


def _of_one_task(listing: Listing, files: list[str]) -> list[str]:
    """Return only ``instances_*`` if files of COCO's other tasks are beside them.

    Raises:
        AnnotationError: Two files list the same images.
    """
    if any(_INSTANCES.match(_stem(file)) for file in files):
        files = [file for file in files if not _stem(file).lower().startswith(_OTHER_TASKS)]
    owner: dict[str, str] = {}
    for file in files if len(files) > 1 else ():
        images = listing.read_json(file, keep=True)
        entries = images.get("images") if isinstance(images, dict) else None
        names = [e["file_name"] for e in entries or () if isinstance(e, dict) and isinstance(e.get("file_name"), str)]
        place = folder_of(file)
        shared = [n for n in names if owner.get(n, file) != file and folder_of(owner[n]) == place]
        same_subset = not _INSTANCES.match(_stem(file))
        if shared and same_subset and len(shared) * 2 > len(names):
            raise AnnotationError(
                f"{listing.root}: {owner[shared[0]]} and {file} list the same {counted(len(shared), 'image')}, such as "
                f"{shared[0]}; set data.annotations to the one to read"
            )
        for name in names:
            owner.setdefault(name, file)
    return files


def _refuse_other_labels(listing: Listing, file: str, raw: dict[str, Any]) -> None:
    """Refuse a file whose annotations are for whole images or for segments.

    Raises:
        AnnotationError: The file has such annotations only: none has its own box, polygon or mask.
    """
    annotations = raw["annotations"]
    if not annotations or any(annotation.get("bbox") or annotation.get("segmentation") for annotation in annotations):
        return
    if any("segments_info" in annotation for annotation in annotations):
        raise AnnotationError(f"{listing.path(file)}: COCO panoptic holds segments, not objects; use instances_*.json")
    if not any("bbox" in annotation or "segmentation" in annotation for annotation in annotations):
        raise AnnotationError(
            f"{listing.path(file)}: no annotation has a box, polygon or mask: they are classes of whole images; sort "
            "the images into a folder per class and set data.format: folders, or export boxes"
        )


def _explain_absence(listing: Listing) -> None:
    """Raise an error that explains why no file is COCO.

    Raises:
        AnnotationError: Always.
    """
    candidates = listing.by_suffix.get(".json", [])
    if len(candidates) == 1:
        load_coco(listing, candidates[0])
    found = examples(candidates, 5) or "none"
    raise AnnotationError(
        f"{listing.root}: no JSON file below it holds COCO annotations (JSON files: {found}); "
        "set data.annotations, or data.format"
    )


def _stem(file: str) -> str:
    return stem_of(file).rpartition("/")[2]


def _bases(file: str) -> Bases:
    """Return the folders of a file's images: beside it, the folder of its subset, or the usual folders."""
    folder = folder_of(file)
    here = f"{folder}/" if folder else ""
    above = f"{folder_of(folder)}/" if folder_of(folder) else ""
    match = _INSTANCES.match(_stem(file))
    subset = match[1] if match else _stem(file)
    of_subset = tuple(
        dict.fromkeys(f"{start}{images}{subset}/" for start in (above, here, "") for images in ("images/", ""))
    )
    usual = tuple(
        dict.fromkeys(f"{start}{images}" for start in (above, here, "") for images in ("images/", "data/", ""))
    )
    return ((here,), of_subset, usual)


def _maker(raw: Any, files: list[str], listing: Listing) -> str:
    info = raw.get("info") if isinstance(raw, dict) else None
    text = " ".join(str(info.get(key, "")) for key in ("contributor", "description")) if isinstance(info, dict) else ""
    for mark, maker in (("Label Studio", "Label Studio COCO"), ("roboflow", "Roboflow COCO"), ("COCO 20", "COCO 2017")):
        if mark in text:
            return maker
    if any(_INSTANCES.match(_stem(f)) and folder_of(f).rpartition("/")[2] == "annotations" for f in files):
        return "COCO 2017" if any(split.endswith("2017") for split in listing.folders) else "CVAT COCO 1.0"
    return "COCO"
