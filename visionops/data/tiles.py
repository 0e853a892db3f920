"""Cut large labelled images into the same tiles that serving uses, for training.

The windows come from `visionops.inference.tiling.tile_windows`, which serving uses, too: a detector is trained on what
it will see.

>>> tiled = cut_tiles(dataset, TrainingTiles(size=640, overlap=128), work / "tiles", seed=0)
>>> tiled.column("key")[0]
'part-7.jpg/512-0.png'
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from visionops.data.dataset import Dataset, Split
from visionops.data.files import atomic_folder, describe_os_error
from visionops.data.layers import Boxes
from visionops.data.settings import TrainingTiles
from visionops.errors import DataError
from visionops.inference.engines import available_cpus
from visionops.inference.image import decode_image
from visionops.inference.preprocessing import Window
from visionops.inference.tiling import tile_windows

__all__ = ["boxes_in_tile", "cut_tiles"]


@dataclasses.dataclass(frozen=True, slots=True)
class _Tile:
    window: Window
    boxes: Boxes
    """Boxes in pixels of the tile."""
    file: str
    """File name; "" for an image that is not larger than a tile and is used as it is."""


def cut_tiles(
    dataset: Dataset,
    tiles: TrainingTiles,
    folder: Path,
    *,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Return the train and val splits with every image larger than a tile replaced by its tiles.

    Tiles are lossless PNG files with the same bytes each time. Boxes are clipped to their tile. A box is left out of a
    tile that shows less than ``tiles.min_visible`` of what a tile could show of it. Of the tiles without any part of a
    box the share ``tiles.keep_empty`` is kept, chosen by ``seed``, the image's key and the position. A tile that shows
    only remains of boxes is left out, because it is neither with nor without a defect.

    Args:
        folder: Target folder for the tiles, written completely or not at all; an existing one is replaced.
        progress: Called with the images done and their total.

    Raises:
        DataError: An image cannot be read, or the folder cannot be written.
        ImageError: An image is damaged, or needs more than ``tiles.max_tiles``.
    """
    splits = dataset.column("split")
    dataset = dataset.take([row for row, split in enumerate(splits) if split in (Split.TRAIN, Split.VAL)])
    every = dataset.boxes_by_image()
    with (
        atomic_folder(folder, replace=True) as temporary,
        ThreadPoolExecutor(max_workers=available_cpus()) as pool,
    ):
        cut_image = functools.partial(_cut_image, dataset, every, tiles, seed, temporary)
        cut: list[list[_Tile]] = []
        for row_tiles in pool.map(cut_image, range(dataset.num_images)):
            cut.append(row_tiles)
            if progress is not None:
                progress(len(cut), dataset.num_images)
    return _joined(dataset, cut, folder)


def _cut_image(
    dataset: Dataset, every: list[Boxes], tiles: TrainingTiles, seed: int, folder: Path, row: int
) -> list[_Tile]:
    key, path = (dataset.images.column(name)[row].as_py() for name in ("key", "path"))
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{key}: cannot be read ({describe_os_error(error)}: {path}); fetch the data again") from error
    pixels = decode_image(data, where=key, white=dataset.white)
    height, width = pixels.shape[:2]
    windows = tile_windows(width, height, tiles, where=key)
    known = Boxes(np.clip(every[row].xyxy, 0.0, [width, height, width, height]), every[row].class_ids)
    if len(windows) == 1:
        return [_Tile(windows[0], known, "")]
    made = []
    for window, boxes, file in _select_tiles(windows, known, tiles, f"{seed} {key}"):
        part = pixels[window.y : window.y + window.height, window.x : window.x + window.width]
        Image.fromarray(part).save(folder / f"{row:07d}-{file}", "PNG", compress_level=1)
        made.append(_Tile(window, boxes, f"{row:07d}-{file}"))
    return made


def _select_tiles(
    windows: tuple[Window, ...], boxes: Boxes, tiles: TrainingTiles, origin: str
) -> Iterator[tuple[Window, Boxes, str]]:
    for window in windows:
        inside, touched = boxes_in_tile(boxes, window, tiles.min_visible)
        place = f"{window.x}-{window.y}.png"
        if len(inside.class_ids) or (not touched and _share(f"{origin} {place}") < tiles.keep_empty):
            yield window, inside, place


def boxes_in_tile(boxes: Boxes, window: Window, min_visible: float) -> tuple[Boxes, bool]:
    """Return the boxes in a tile, clipped and in its pixels, and whether it shows any part of a box.

    Args:
        min_visible: Minimum share of what a tile of this size could show of a box: of its area, if it is smaller than
            the tile.
    """
    size = np.array([window.width, window.height], dtype=np.float64)
    moved = boxes.xyxy - np.array([window.x, window.y] * 2)
    clipped = np.clip(moved, 0.0, np.tile(size, 2))
    shown, full = clipped[:, 2:] - clipped[:, :2], moved[:, 2:] - moved[:, :2]
    visible = (shown > 0).all(axis=1)
    share: npt.NDArray[np.float64] = (shown / np.maximum(np.minimum(full, size), 1e-9)).prod(axis=1)
    keep = visible & (share >= min_visible)
    return Boxes(clipped[keep], boxes.class_ids[keep]), bool(visible.any())


def _share(text: str) -> float:
    """Return a number from 0 to below 1 that depends only on the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def _joined(dataset: Dataset, cut: list[list[_Tile]], folder: Path) -> Dataset:
    columns: dict[str, list[object]] = {name: dataset.column(name) for name in dataset.images.column_names}
    rows = [(row, tile) for row, tiles in enumerate(cut) for tile in tiles]
    taken = {name: [values[row] for row, _ in rows] for name, values in columns.items()}
    for new, (row, tile) in enumerate(rows):
        taken["width"][new], taken["height"][new] = tile.window.width, tile.window.height
        if tile.file:
            taken["key"][new] = f"{columns['key'][row]}/{tile.file.partition('-')[2]}"
            taken["path"][new] = str(folder / tile.file)
            taken["sha256"][new], taken["num_bytes"][new], taken["plain"][new] = "", -1, True
    image = np.repeat(np.arange(len(rows)), [len(tile.boxes.class_ids) for _, tile in rows])
    xyxy = np.concatenate([np.empty((0, 4)), *(tile.boxes.xyxy for _, tile in rows)])
    class_ids = np.concatenate([np.empty(0, np.int32), *(tile.boxes.class_ids for _, tile in rows)])
    boxes = {"image": image, "class_id": class_ids} | dict(zip(("x1", "y1", "x2", "y2"), xyxy.T, strict=True))
    # Small images keep their own files.
    return Dataset.from_columns(dataset.name, dataset.class_names, taken, boxes, white_level=dataset.white_level)
