"""Compare full-decode validation with a loop that only decodes, on all cores, in the same run.

    python -m benchmarks.validation

The loop is the limit: only `Image.open(path).load()`, on the same number of threads.
"""

from __future__ import annotations

import concurrent.futures
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.rows import cores
from visionops.data.dataset import Dataset
from visionops.data.settings import ValidationPolicy
from visionops.data.validation.inspection import inspect_images
from visionops.data.validation.judging import validate

__all__ = ["measure"]

_CHUNK = 16


def measure(images: int = 3000, different: int = 300, rounds: int = 5) -> dict[str, float]:
    """Time both in turns; the best round of each counts.

    Args:
        images: Number of images to validate.
        different: Number of rendered files; the rest are links to them.

    Returns:
        Images per second and their ratio to the bare loop: ``bare``, ``inspect`` (decode, header, hash), ``validate``
        (everything, including the card), ``inspect_ratio``, ``validate_ratio``; ``bytes_per_image``; ``cores``.
    """
    with tempfile.TemporaryDirectory(prefix="visionops-") as folder:
        paths = _render(Path(folder), images, different)
        size = sum(os.path.getsize(p) for p in paths) / len(paths)  # noqa: PTH202
        dataset = _dataset(paths)
        policy = ValidationPolicy(min_instances=0)
        contestants: dict[str, Callable[[], object]] = {
            "bare": lambda: _decode_all(paths),
            "inspect": lambda: inspect_images(dataset, policy.max_pixels),
            "validate": lambda: validate(dataset, policy),
        }
        best = dict.fromkeys(contestants, float("inf"))
        for _ in range(rounds):
            for name, run in contestants.items():
                start = time.perf_counter()
                run()
                best[name] = min(best[name], time.perf_counter() - start)
    speed = {name: images / seconds for name, seconds in best.items()}
    return {
        **speed,
        "inspect_ratio": speed["inspect"] / speed["bare"],
        "validate_ratio": speed["validate"] / speed["bare"],
        "bytes_per_image": size,
        "cores": float(cores()),
    }


def _render(folder: Path, images: int, different: int) -> list[str]:
    """Write JPEGs of 640 x 480 with as much detail as photos of surfaces."""
    random = np.random.default_rng(0)
    paths = []
    for number in range(images):
        path = folder / f"{number:06}.jpg"
        if number < different:
            shapes = Image.fromarray(random.integers(0, 256, (20, 27, 3), dtype=np.uint8)).resize((640, 480), 3)
            noisy = np.asarray(shapes).astype(np.float32) + random.normal(0, 6, (480, 640, 3)).astype(np.float32)
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=88)
        else:
            path.hardlink_to(folder / f"{number % different:06}.jpg")
        paths.append(str(path))
    return paths


def _dataset(paths: list[str]) -> Dataset:
    """Return a data set with a hash for each image, as from the reader, because hashing is not measured here."""
    count = len(paths)
    images = {
        "key": [Path(p).name for p in paths],
        "path": paths,
        "sha256": [f"{number:064x}" for number in range(count)],
        "width": [640] * count,
        "height": [480] * count,
    }
    boxes = {
        "image": list(range(count)),
        "class_id": [0] * count,
        "x1": [10.0] * count,
        "y1": [10.0] * count,
        "x2": [99.0] * count,
        "y2": [99.0] * count,
    }
    return Dataset.from_columns("bench", ["scratch"], images, boxes)


def _decode_all(paths: list[str]) -> None:
    chunks = [paths[i : i + _CHUNK] for i in range(0, len(paths), _CHUNK)]
    with concurrent.futures.ThreadPoolExecutor(cores()) as pool:
        list(pool.map(_decode, chunks))


def _decode(paths: list[str]) -> None:
    for path in paths:
        with Image.open(path) as image:
            image.load()


def main() -> None:
    """Print the table."""
    result = measure()
    print(
        f"{result['bytes_per_image'] / 1000:.0f} kB JPEGs of 640 x 480, {result['cores']:.0f} cores, best of 5 rounds"
    )
    print(f"{'':<28}{'images/s':>10}{'of bare':>10}")
    for name, label in (
        ("bare", "bare decode, all cores"),
        ("inspect", "decode + header + hash"),
        ("validate", "validate(), card included"),
    ):
        print(f"{label:<28}{result[name]:>10,.0f}{result[name] / result['bare']:>10.2f}")


if __name__ == "__main__":
    main()
