"""Export a data set to the trainer as YOLO files, with links to the images.

`visionops.data.formats.yolo` reads the result back.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import yaml
from PIL import Image

from visionops.data.dataset import Dataset, Split
from visionops.data.fast_json import paused_gc
from visionops.data.files import atomic_folder, describe_os_error, file_header
from visionops.data.formats.yolo import DATA_FILE, SPLIT_FOLDERS
from visionops.data.layout import flat_names, link_file
from visionops.errors import DataError
from visionops.inference.image import decode_image
from visionops.inference.jpeg import read_simple_jpeg

__all__ = ["write_yolo"]

_TRAINER_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp"})
_JPEG_SUFFIXES = frozenset({".jpg", ".jpeg"})
_HEAD_BYTES = 4096
"""Bytes that hold the header of most JPEGs without EXIF."""
_SPLITS = {split.value: split for split in Split}


def write_yolo(dataset: Dataset, folder: Path) -> Path:
    """Write the data set in the trainer's layout.

    ``images/{train,val,test}`` and ``labels/{train,val,test}``; images for batch inference go to ``unlabelled``,
    images without a split to ``all``. Boxes are clipped to the image as rectangles; those without remaining area are
    dropped. Images without boxes get an empty label file. Images are linked if possible, else copied; images that are
    not plain (`ImageHeader.is_plain`) are re-encoded losslessly as PNG, so that the trainer sees the same pixels as the
    server. ``folder`` is written completely or not at all; an earlier export is replaced.

    Returns:
        The path of ``data.yaml``.

    Raises:
        DataError: An image is not on this machine, or the folder cannot be written.
    """
    folder = folder.absolute()
    if folder.exists() and not (folder / DATA_FILE).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: exists and is not a YOLO data set; choose another folder")
    items = _plan(dataset)
    with atomic_folder(folder, replace=True) as temporary:
        splits = [s for s in SPLIT_FOLDERS if any(item.split == s for item in items)]
        for split in splits:
            (temporary / "images" / SPLIT_FOLDERS[split]).mkdir(parents=True)
            (temporary / "labels" / SPLIT_FOLDERS[split]).mkdir(parents=True)
        texts = _label_texts(dataset, items)
        # Two folders, two threads: both mostly wait for the file system. The pool waits for the links even if a label
        # fails, so that nothing is written into a folder that is being removed.
        with ThreadPoolExecutor(max_workers=1) as pool:
            linked = pool.submit(_link_images, temporary, items)
            _write_labels(temporary, items, texts)
        _encode_images(temporary, linked.result(), dataset.white)
        settings: dict[str, Any] = {SPLIT_FOLDERS[s]: f"images/{SPLIT_FOLDERS[s]}" for s in splits}
        settings["names"] = dict(enumerate(dataset.class_names))
        text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
        (temporary / DATA_FILE).write_text(text, encoding="utf-8")
    return folder / DATA_FILE


@dataclasses.dataclass(slots=True)
class _Item:
    """An image to export."""

    key: str
    source: str
    split: Split
    stem: str
    suffix: str
    plain: bool | None
    """Whether it is plain; None: not checked yet."""
    width: int
    height: int
    num_bytes: int


@paused_gc()
def _plan(dataset: Dataset) -> list[_Item]:
    keys, paths = dataset.column("key"), dataset.column("path")
    if not all(paths):
        missing = [key for key, path in zip(keys, paths, strict=True) if not path]
        raise DataError(
            f"{missing[0]}: the image is not on this machine ({len(missing)} such); validate the data set first"
        )
    parts = [os.path.splitext(key) for key in keys]  # noqa: PTH122 - per image, Path costs more than the link
    stems = flat_names(keys, [stem for stem, _ in parts])
    splits = [_SPLITS[value] for value in dataset.column("split")]
    suffixes = [suffix.lower() for _, suffix in parts]
    columns = (dataset.column(c) for c in ("plain", "width", "height", "num_bytes"))
    items = list(map(_Item, keys, paths, splits, stems, suffixes, *columns))
    for item in items:
        if not item.width or not item.height:  # the label file needs them
            _measure(item)
    return items


def _measure(item: _Item) -> None:
    header = file_header(Path(item.source), item.key)
    item.width, item.height = header.width, header.height
    if item.plain is None:
        item.plain = header.is_plain


def _can_be_linked(item: _Item) -> bool:
    """Return whether the trainer reads the same pixels from the file as the server, without rewriting it."""
    if item.suffix not in _TRAINER_SUFFIXES or item.plain is False:
        return False
    if item.suffix not in _JPEG_SUFFIXES:
        return item.plain or file_header(Path(item.source), item.key).is_plain
    try:
        file = os.open(item.source, os.O_RDONLY)
    except OSError as error:
        raise DataError(f"{item.source}: cannot be read ({describe_os_error(error)})") from error
    try:
        return (item.plain or _is_plain_jpeg(item, file)) and _ends_well(item, file)
    finally:
        os.close(file)


def _is_plain_jpeg(item: _Item, file: int) -> bool:
    header = read_simple_jpeg(os.pread(file, _HEAD_BYTES, 0)) or file_header(Path(item.source), item.key)
    return header.is_plain


def _ends_well(item: _Item, file: int) -> bool:
    """Return whether a JPEG ends with its end marker. The trainer re-encodes others, with loss."""
    size = item.num_bytes if item.num_bytes > 2 else os.fstat(file).st_size
    return os.pread(file, 3, max(size - 2, 0)) == b"\xff\xd9"


@paused_gc()
def _label_texts(dataset: Dataset, items: Sequence[_Item]) -> list[bytes]:
    image, class_ids, xyxy = dataset.box_arrays()
    sizes = np.column_stack([[item.width for item in items], [item.height for item in items]]).astype(np.float64)
    limit = np.tile(sizes[image], 2) if len(image) else np.empty((0, 4))
    clipped = np.clip(xyxy, 0.0, limit)
    keep = np.flatnonzero((clipped[:, 2:] > clipped[:, :2]).all(axis=1))
    keep = keep[np.argsort(image[keep], kind="stable")]
    clipped, limit = clipped.take(keep, axis=0), limit.take(keep, axis=0)
    centre_and_size = np.hstack([(clipped[:, :2] + clipped[:, 2:]) / 2, clipped[:, 2:] - clipped[:, :2]]) / limit
    # 12 decimals: 1e-8 px of an image 20,000 px wide.
    rows = list(zip(class_ids[keep].tolist(), *centre_and_size.round(12).T.tolist(), strict=True))
    # orjson writes numbers in a quarter of the time of formatting them.
    text = orjson.dumps(rows)[2:-2].replace(b"],[", b"\n").replace(b",", b" ") + b"\n"
    ends = np.append(0, np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n")) + 1)
    cuts = ends[np.searchsorted(image[keep], np.arange(len(items) + 1))].tolist()
    return [text[start:stop] for start, stop in itertools.pairwise(cuts)]


def _write_labels(folder: Path, items: Iterable[_Item], texts: Iterable[bytes]) -> None:
    folders = {split: f"{folder}/labels/{name}/" for split, name in SPLIT_FOLDERS.items()}
    for item, text in zip(items, texts, strict=True):
        file = os.open(f"{folders[item.split]}{item.stem}.txt", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            written = os.write(file, text) if text else 0
            if written < len(text):  # a full disk accepts a part first, and refuses the rest
                os.write(file, text[written:])
        finally:
            os.close(file)


def _link_images(folder: Path, items: Iterable[_Item]) -> list[_Item]:
    """Link images that the trainer can read without changes.

    Returns:
        The others, which must be re-encoded.
    """
    folders = {split: f"{folder}/images/{name}/" for split, name in SPLIT_FOLDERS.items()}
    others = []
    for item in items:
        if _can_be_linked(item):
            link_file(item.source, f"{folders[item.split]}{item.stem}{item.suffix}")
        else:
            others.append(item)
    return others


def _encode_images(folder: Path, items: Sequence[_Item], white: int) -> None:
    if not items:
        return
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for _ in pool.map(lambda item: _encode(folder, item, white), items):
            pass


def _encode(folder: Path, item: _Item, white: int) -> None:
    try:
        data = Path(item.source).read_bytes()
    except OSError as error:
        raise DataError(f"{item.source}: cannot be read ({describe_os_error(error)})") from error
    pixels: npt.NDArray[np.uint8] = decode_image(data, where=item.key, white=white)
    target = folder / "images" / SPLIT_FOLDERS[item.split] / f"{item.stem}.png"
    Image.fromarray(pixels).save(target, "PNG", compress_level=1)
