"""Measure the time from our server's start to its first answer: cold and warm cache, quiet and busy machine.

Run it as ``python -m benchmarks.startup [--starts 10] [--size 640] [--json FILE]``. Cold: the cache is empty.
Warm: the folder of `--cache` is that of an earlier start. Busy: a process on each core computes all the time. The four
take turns, so that a disturbance affects all.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.contestants import OURS, Contestant, busy_cores, start
from benchmarks.model import make_detector, make_images
from benchmarks.rows import Row, cores, print_rows
from visionops.inference.bundle import ModelBundle

__all__ = ["main", "table"]

_WARM_SECONDS, _COLD_SECONDS = 1.5, 4.0
_BUSY_FACTOR = 2
"""Factor of the targets on a busy machine over those on a quiet one."""


def main(arguments: list[str] | None = None) -> int:
    """Measure and print. Returns 1 if a target is missed, 2 if a requirement is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=10, help="starts of each kind [%(default)s]")
    parser.add_argument("--size", type=int, default=640, help="input width and height of the model [%(default)s]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every time to this file")
    options = parser.parse_args(arguments)
    if options.starts < 1:
        parser.error("--starts: expected 1 or more")
    try:
        source, images = make_images()
        bundle = make_detector(options.size, images, source)
        print(f"YOLOv8n at {options.size} px, {options.starts} starts each; {cores()} cores")
        with tempfile.TemporaryDirectory(prefix="visionops-startup-") as scratch:
            seconds = _measure(bundle, images[0], Path(scratch), options.starts)
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows = table(seconds)
    for title, part in rows.items():
        print_rows(title, part)
    if options.json:
        document = {"cores": cores(), "seconds": {f"{machine} {cache}": s for (machine, cache), s in seconds.items()}}
        document["verdicts"] = {title: [dataclasses.asdict(row) for row in part] for title, part in rows.items()}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return int(any(row.met is False for part in rows.values() for row in part))


def table(seconds: dict[tuple[str, str], list[float]]) -> dict[str, list[Row]]:
    """Return the rows of each table, which judge the slowest start.

    Args:
        seconds: Seconds from start to first answer, by machine ("quiet", "busy") and cache ("warm", "cold").
    """
    tables: dict[str, list[Row]] = {}
    for (machine, cache), taken in seconds.items():
        target = (_WARM_SECONDS if cache == "warm" else _COLD_SECONDS) * (_BUSY_FACTOR if machine == "busy" else 1)
        tables.setdefault(f"start to first answer, {machine} machine", []).extend(
            [
                Row(f"{cache} cache, fastest", min(taken), "s"),
                Row(f"{cache} cache, median", statistics.median(taken), "s"),
                Row(f"{cache} cache, slowest", max(taken), "s", f"<= {target:g}", max(taken) <= target),
            ]
        )
    return tables


def _measure(bundle: ModelBundle, image: bytes, scratch: Path, starts: int) -> dict[tuple[str, str], list[float]]:
    seconds: dict[tuple[str, str], list[float]] = {}
    _start(bundle, image, scratch / "warm")
    for number in range(starts):
        for machine in ("quiet", "busy"):
            with busy_cores() if machine == "busy" else contextlib.nullcontext():
                cold = scratch / f"cold-{machine}-{number}"
                seconds.setdefault((machine, "warm"), []).append(_start(bundle, image, scratch / "warm"))
                seconds.setdefault((machine, "cold"), []).append(_start(bundle, image, cold))
                shutil.rmtree(cold)
    return seconds


def _start(bundle: ModelBundle, image: bytes, folder: Path) -> float:
    with start(Contestant(OURS, ""), bundle.folder, image, folder) as server:
        return server.ready_after


if __name__ == "__main__":
    sys.exit(main())
