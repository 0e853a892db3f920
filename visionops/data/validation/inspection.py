"""Decode each image, and keep the results that later checks need."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from visionops.data.dataset import Dataset
from visionops.data.duplicates import look_alike, sample
from visionops.data.files import file_header
from visionops.data.findings import Code
from visionops.errors import ImageError
from visionops.inference.image import (
    ImageHeader,
    ImageProblem,
    deep_samples,
    load_upright,
    to_eight_bits,
    to_rgb,
    white_level,
)
from visionops.inference.preprocessing_spec import FULL_WHITE

__all__ = ["Inspection", "inspect_headers", "inspect_images"]

_CHUNK = 16  # images per task: enough to hide the pool's overhead, few enough for a smooth progress bar


@dataclasses.dataclass(frozen=True, slots=True)
class Inspection:
    """Result of decoding one image."""

    problem: str = ""
    """A `Code` value; "" if the image can be used."""
    message: str = ""
    """Description of the problem and its fix, without the place."""
    header: ImageHeader | None = None
    sha256: str = ""
    phash: int = 0
    look: npt.NDArray[np.uint8] | None = None
    """uint8 (16, 16), grey."""
    brightness: float = 0.0
    """Mean grey value, 0 to 255; for 16 bits by the white level of this image alone, like hash and thumbnail."""
    peak: int = 0
    """Largest sample of a 16-bit file; 0 for others."""


def inspect_images(
    dataset: Dataset, max_pixels: int, progress: Callable[[int], None] | None = None
) -> list[Inspection]:
    """Decode every image in full, on all cores.

    At most one decoded image per thread is in memory.

    Returns:
        One inspection per image, in row order.
    """
    paths, hashes = dataset.column("path"), dataset.column("sha256")
    return _on_all_cores(lambda row: _inspect(paths[row], hashes[row], max_pixels), len(paths), progress)


def inspect_headers(dataset: Dataset, progress: Callable[[int], None] | None = None) -> list[Inspection]:
    """Read the header of every image, on all cores: `inspect_images` without hash, thumbnail and brightness.

    Returns:
        One inspection per image, in row order.
    """
    keys, paths = dataset.column("key"), dataset.column("path")
    return _on_all_cores(lambda row: _inspect_header(keys[row], paths[row]), len(paths), progress)


def _on_all_cores(
    inspect: Callable[[int], Inspection], count: int, progress: Callable[[int], None] | None
) -> list[Inspection]:
    """Call ``inspect`` for each row, in row order.

    Threads, not processes: Pillow decodes outside the interpreter lock, and threads start immediately.
    """
    chunks = [range(i, min(i + _CHUNK, count)) for i in range(0, count, _CHUNK)]
    results: list[Inspection] = []
    with concurrent.futures.ThreadPoolExecutor(_usable_cores()) as pool:
        try:
            for part in pool.map(lambda rows: [inspect(row) for row in rows], chunks):
                results += part
                if progress:
                    progress(len(results))
        finally:
            pool.shutdown(cancel_futures=True)  # Ctrl-C must not wait for a hundred thousand images
    return results


def _usable_cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # a container may use fewer cores than the machine has
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _inspect(path: str, sha256: str, max_pixels: int) -> Inspection:
    try:
        data = _read(path)
    except OSError as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        message = f"the file {reason}; put it back or remove it from the labels"
        return Inspection(Code.MISSING_IMAGE.value, message)
    sha256 = sha256 or hashlib.sha256(data).hexdigest()
    try:
        header, image = load_upright(data, where="", max_pixels=max_pixels, luminance=True)
        image, peak = _comparable(data, header, image)
    except ImageError as error:
        return Inspection(ImageProblem(error.kind).value, str(error).removeprefix(": "), sha256=sha256)
    phash, look = look_alike(image)
    return Inspection("", "", header, sha256, phash, look, float(look.mean()), peak)


def _inspect_header(key: str, path: str) -> Inspection:
    if not path:
        message = "the file is missing; put it back or remove it from the labels"
        return Inspection(Code.MISSING_IMAGE.value, message)
    try:
        return Inspection(header=file_header(Path(path), key))
    except ImageError as error:
        return Inspection(ImageProblem(error.kind).value, str(error).removeprefix(f"{key}: "))


def _comparable(data: bytes, header: ImageHeader, image: Image.Image) -> tuple[Image.Image, int]:
    """Convert a decoded image to mode L or RGB, for `look_alike`, and find its largest 16-bit sample.

    16-bit samples are scaled by the white level of this image alone. The white level of the data set is not known yet,
    and changes when brighter images are added, while an image must still be recognized; with the full range, 12 bits
    would leave 16 grey levels. Hashes and correlations do not depend on the scale.
    """
    peak = 0
    try:
        if header.bits > 8:
            samples = deep_samples(data, header, image)
            peak, white = int(samples.max()), white_level(int(samples.max()))
            if samples.ndim == 3 and white != FULL_WHITE:
                return Image.fromarray(to_eight_bits(samples, white)), peak
            image = Image.fromarray(to_rgb(sample(image), white)) if samples.ndim == 2 else image
        return image if image.mode in {"L", "RGB"} else Image.fromarray(to_rgb(sample(image))), peak
    except ValueError as error:  # a rare mode that Pillow cannot convert
        message = f": pixels of type {image.mode} cannot be converted; convert it to RGB"
        raise ImageError(message, ImageProblem.UNSUPPORTED) from error


def _read(path: str) -> bytes:
    if not path:
        raise FileNotFoundError
    return Path(path).read_bytes()
