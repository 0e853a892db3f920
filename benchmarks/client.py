"""Measure the overhead of our Python client over plain httpx.

Run it as ``python -m benchmarks.client [--rounds 300] [--json FILE]``. Both send the same bytes over a kept connection
to the same server, in pairs of random order, so that other work on the machine affects both. Each pair gives one
difference; the median of the differences is the overhead.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx

from benchmarks.contestants import OURS, Contestant, start
from benchmarks.model import make_detector, make_images
from benchmarks.rows import Row, cores, print_rows
from benchmarks.spread import interval_of_median
from visionops.client import Client, Retry

__all__ = ["differences", "main", "rows_of"]

_TARGET_MS = 1.0
_SIZE = 64
"""Input size of the model in pixels; inference is short, so its variation hides little."""
_WARM_UP = 20


def main(arguments: list[str] | None = None) -> int:
    """Measure and print. Returns 1 if the whole interval is above the target, 2 if a requirement is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.client", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=300, help="pairs of each request [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the order within the pairs [%(default)s]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    options = parser.parse_args(arguments)
    source, images = make_images()
    try:
        bundle = make_detector(_SIZE, images, source)
        with tempfile.TemporaryDirectory(prefix="visionops-benchmark-") as scratch:
            rows = _measure(bundle.folder, images[0], Path(scratch), options.rounds, random.Random(options.seed))
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print_rows(f"the client over plain httpx, {options.rounds} pairs, {cores()} cores", rows)
    if options.json:
        document = {"cores": cores(), "rounds": options.rounds, "rows": [dataclasses.asdict(row) for row in rows]}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return int(any(row.met is False for row in rows))


def _measure(bundle: Path, image: bytes, folder: Path, rounds: int, chance: random.Random) -> list[Row]:
    headers = {"Content-Type": "application/octet-stream"}
    with (
        start(Contestant(OURS), bundle, image, folder) as server,
        httpx.Client(base_url=f"http://{server.address}") as plain,
        Client(f"http://{server.address}", retry=Retry(seconds=0)) as ours,
    ):
        requests: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "/predict": (
                lambda: plain.post("/predict", content=image, headers=headers).json(),
                lambda: ours.predict(image),
            ),
            "/model": (lambda: plain.get("/model").json(), ours.model),
        }
        return [
            row
            for path, (bare, client) in requests.items()
            for row in rows_of(path, differences(bare, client, rounds, chance))
        ]


def differences(
    bare: Callable[[], object], client: Callable[[], object], rounds: int, chance: random.Random
) -> list[tuple[float, float]]:
    """Return the milliseconds of the bare request and of the client's request in each pair, after a warm-up."""
    for _ in range(_WARM_UP):
        bare()
        client()
    pairs = []
    for _ in range(rounds):
        if chance.random() < 0.5:
            first = _timed(bare)
            pairs.append((first, _timed(client)))
        else:
            second = _timed(client)
            pairs.append((_timed(bare), second))
    return pairs


def rows_of(path: str, pairs: Sequence[tuple[float, float]]) -> list[Row]:
    """Return the medians of both, and the overhead: the median of the differences with its interval."""
    added = [client - bare for bare, client in pairs]
    low, high = interval_of_median(added)
    return [
        Row(f"{path}: httpx, median", statistics.median(bare for bare, _ in pairs), "ms"),
        Row(
            f"{path}: the client adds, median", statistics.median(added), "ms", f"<= {_TARGET_MS:g}", low <= _TARGET_MS
        ),
        Row(f"{path}: 95 % interval of it, from", low, "ms"),
        Row(f"{path}: 95 % interval of it, to", high, "ms"),
    ]


def _timed(send: Callable[[], object]) -> float:
    begin = time.perf_counter()
    send()
    return (time.perf_counter() - begin) * 1000


if __name__ == "__main__":
    sys.exit(main())
