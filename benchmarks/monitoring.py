"""Measure the cost of image features over decoding alone: ``python -m benchmarks.monitoring [--images 10000]``.

The limit is decoding alone. Both take turns on the same files, on all cores; the best of three rounds counts. Large
images use a tenth of the number.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.model import make_images
from benchmarks.rows import Row, cores, print_rows
from visionops.inference.image import decode_image
from visionops.monitoring.features import describe_image

__all__ = ["main"]

_ROUNDS = 3
_LARGE = (1920, 1440)
"""Resolution of a typical industrial camera, in pixels."""
_SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def main(arguments: list[str] | None = None) -> int:
    """Measure and print. Returns 1 when a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.monitoring", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000, help="images per round [%(default)s]")
    options = parser.parse_args(arguments)
    source, castings = make_images()
    kinds = {
        f"{source}, {_LARGE[0]} x {_LARGE[1]}": ([_enlarge(image) for image in castings[:4]], options.images // 10),
        f"{source}, 640 x 480": (castings, options.images),
    }
    if steel := sorted((_SHARED / "vision").rglob("*.jpg"))[:200]:
        kinds["steel of vision, 200 x 200"] = ([path.read_bytes() for path in steel], options.images)
    missed = False
    for title, (images, count) in kinds.items():
        rows = _measure(images, count)
        print_rows(f"{count} images: {title}  ({cores()} cores, load {os.getloadavg()[0]:.1f})", rows)
        missed |= any(row.met is False for row in rows)
    return int(missed)


def _enlarge(image: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(image)).resize(_LARGE).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _measure(images: list[bytes], count: int) -> list[Row]:
    contestants: dict[str, Callable[[bytes], object]] = {
        "decoding alone": decode_image,
        "decoding, features and descriptor": lambda data: describe_image(decode_image(data)),
    }
    best = dict.fromkeys(contestants, 0.0)
    with ThreadPoolExecutor(cores()) as pool:
        for _ in range(_ROUNDS):
            for name, work in contestants.items():
                begin = time.perf_counter()
                for _ in pool.map(work, (images[i % len(images)] for i in range(count)), chunksize=32):
                    pass
                best[name] = max(best[name], count / (time.perf_counter() - begin))
    alone, both = best.values()
    rgb = [decode_image(data) for data in images[:100]]
    spans = []
    for pixels in rgb * 5:
        begin = time.perf_counter()
        describe_image(pixels)
        spans.append((time.perf_counter() - begin) * 1000)
    p50 = float(np.median(spans))
    return [
        *(Row(name, rate, "/s") for name, rate in best.items()),
        Row("ratio", both / alone, "x", ">= 0.9", both / alone >= 0.9),
        Row("features and descriptor of one image, p50", p50, "ms", "<= 1", p50 <= 1),
    ]


if __name__ == "__main__":
    sys.exit(main())
