"""Read the pixels of a data set in the form that the model takes, through the one preprocessing."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from visionops.data.dataset import Dataset
from visionops.data.files import describe_os_error
from visionops.errors import DataError
from visionops.inference.engines import available_cpus
from visionops.inference.image import decode_image
from visionops.inference.preprocessing import to_canvas
from visionops.inference.preprocessing_spec import PreprocessingSpec
from visionops.tasks.classification.settings import Views

__all__ = ["VIEWS", "Canvases", "look", "read_canvases", "require_paths"]

Canvas = npt.NDArray[np.uint8]
"""uint8 (S, S, 3), RGB, from `to_canvas`."""

VIEWS = {Views.NONE: (0,), Views.MIRRORED: (0, 4), Views.DIHEDRAL: (0, 1, 2, 3, 4, 5, 6, 7)}
"""Arguments of `look`."""

_AHEAD = 64
_MEMORY = 2_000_000_000
"""Bytes of canvases that are kept in memory; larger data sets are read again in each epoch."""


def require_paths(dataset: Dataset) -> None:
    """Check that every image has a path.

    Raises:
        DataError: An image has no path; the message names the first one.
    """
    missing = [key for key, path in zip(dataset.column("key"), dataset.column("path"), strict=True) if not path]
    if missing:
        raise DataError(
            f"{missing[0]}: the image is not on this machine (nor {len(missing) - 1} others); fetch the data set again"
        )


def read_canvases(dataset: Dataset, spec: PreprocessingSpec, rows: Sequence[int], workers: int = 0) -> Iterator[Canvas]:
    """Yield the canvases of the images at ``rows``, in order, reading some ahead.

    Args:
        workers: Number of threads that decode; one for each CPU when 0.

    Raises:
        DataError: A file cannot be read, or is not a usable image.
    """
    keys, paths = dataset.column("key"), dataset.column("path")

    def read(row: int) -> Canvas:
        try:
            data = Path(paths[row]).read_bytes()
        except OSError as error:
            raise DataError(
                f"{keys[row]}: cannot be read ({describe_os_error(error)}: {paths[row]}); fetch the data set again"
            ) from error
        return to_canvas(decode_image(data, where=keys[row], white=spec.white), spec)[0]

    waiting: collections.deque[Future[Canvas]] = collections.deque()
    with ThreadPoolExecutor(workers or available_cpus()) as pool:
        left = iter(rows)
        try:
            waiting.extend(pool.submit(read, row) for row in itertools.islice(left, _AHEAD))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(read, row) for row in itertools.islice(left, 1))
        finally:
            for future in waiting:
                future.cancel()


def look(canvas: Canvas, view: int) -> Canvas:
    """Return one of eight orientations of a square: ``view % 4`` quarter turns, mirrored from 4 on; 0 is unchanged."""
    turned = np.rot90(canvas, view % 4)
    return np.ascontiguousarray(turned[:, ::-1] if view >= 4 else turned)


class Canvases:
    """All canvases of a data set, decoded once if they fit into memory."""

    def __init__(self, dataset: Dataset, spec: PreprocessingSpec, workers: int = 0) -> None:
        self._dataset, self._spec, self._workers = dataset, spec, workers
        self._kept: npt.NDArray[np.uint8] | None = None
        shape = (dataset.num_images, spec.height, spec.width, 3)
        if np.prod(shape, dtype=np.int64) <= _MEMORY:
            self._kept = np.empty(shape, dtype=np.uint8)
            for row, canvas in enumerate(read_canvases(dataset, spec, range(dataset.num_images), workers)):
                self._kept[row] = canvas

    def batches(self, rows: npt.NDArray[np.int64], size: int) -> Iterable[tuple[npt.NDArray[np.int64], Canvas]]:
        """Yield ``size`` rows at a time, fewer at the end: the rows, and their canvases uint8 (N, S, S, 3)."""
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        if self._kept is not None:
            yield from ((part, self._kept[part]) for part in parts)
            return
        stream = read_canvases(self._dataset, self._spec, rows.tolist(), self._workers)
        for part in parts:
            yield part, np.stack(list(itertools.islice(stream, len(part))))
