"""Measure how fast images are answered over HTTP: ours, plain FastAPI, other servers, and the limit without HTTP.

Run it as ``python -m benchmarks.serving [--cells 640x1,640x16] [--only ours,fastapi] [--json FILE] [--plot FILE]``.
All servers of a size run at once and take turns, in another order each round; idle ones cost nothing. Ratios use the
same round, and a target is missed only if the whole interval of the median misses it. ``--soak`` and ``--switches``
measure only our server, under overload and during model switches.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.contestants import (
    BASELINE,
    LATENCY,
    OURS,
    PEERS,
    STARTED_BUSY,
    THROUGHPUT,
    Contestant,
    Server,
    busy_cores,
    settle,
    start,
)
from benchmarks.endurance import measure_soak, measure_switches
from benchmarks.load import Load, find_wrk, run_wrk, write_lua
from benchmarks.model import is_same, make_detector, make_images
from benchmarks.peers.detector import Detector
from benchmarks.rows import Row, cores, print_rows
from benchmarks.spread import Spread, spread_of
from visionops.inference.bundle import ModelBundle
from visionops.inference.predictor import Predictor

__all__ = ["LIMIT", "TARGET", "Cell", "Result", "best", "check_targets", "main", "print_cell", "ratio"]

LIMIT = "limit"
TARGET = 0.97
"""Minimum ratio of our throughput to the best other server's."""
_CELLS = "640x1,640x4,640x16,320x1,320x4,320x16"
_TRIAL_SECONDS = 1.5
_READY_SECONDS, _RESIDENT_MB = 2.0, 400.0
_LIMIT_SHARE, _UNEVEN = 0.92, 2.0


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One input size with a number of clients."""

    size: int
    """Input width and height of the model, in pixels."""
    clients: int
    """Number of clients, each always with one open request."""

    @classmethod
    def parse(cls, text: str) -> Cell:
        """Parse ``640x16``: size and clients."""
        size, _, clients = text.partition("x")
        return cls(int(size), int(clients))

    def __str__(self) -> str:
        return f"{self.size}x{self.clients}"


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """Result of one contestant in one cell."""

    contestant: str
    title: str
    rounds: tuple[Load, ...] = ()
    """One load per round, in order; empty if the contestant is missing."""

    @property
    def throughput(self) -> float:
        """Successful answers per second, median of the rounds."""
        return statistics.median(load.throughput for load in self.rounds)

    @property
    def p50(self) -> float:
        """Milliseconds, median of the rounds."""
        return statistics.median(load.p50 for load in self.rounds)

    @property
    def p99(self) -> float:
        """Milliseconds, median of the rounds."""
        return statistics.median(load.p99 for load in self.rounds)

    @property
    def errors(self) -> int:
        """Failed requests of all rounds."""
        return sum(load.errors for load in self.rounds)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print. Returns 1 if a target is missed, 2 if a requirement is missing."""
    options = _parse(arguments)
    try:
        find_wrk()
        source, images = make_images()
        size = sum(map(len, images)) // len(images) // 1000
        print(f"{len(images)} {source}, JPEG of 640 x 480, quality 90, {size} kB; YOLOv8n; {cores()} cores")
        with tempfile.TemporaryDirectory(prefix="visionops-benchmark-") as scratch:
            if options.soak or options.switches:
                return _endure(options, Path(scratch), source, images)
            return _compare(options, Path(scratch), source, images)
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__.splitlines()[0])
    parser.add_argument("--cells", default=_CELLS, help="input size x clients, separated by commas: %(default)s")
    contestants = [OURS, BASELINE, *PEERS]
    parser.add_argument("--only", default=",".join(contestants), help="contestants: %(default)s")
    parser.add_argument("--seconds", type=float, default=4, help="seconds of load per cell and round [%(default)s]")
    parser.add_argument(
        "--first-load", type=float, default=20, help="seconds of load on each server before all rounds [%(default)s]"
    )
    parser.add_argument("--warm-up", type=float, default=1, help="seconds of load before each [%(default)s]")
    parser.add_argument("--rounds", type=int, default=7, help="rounds, each with every contestant once [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the order in the rounds [%(default)s]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw them: .png or .svg")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="instead: overload at twice the sustainable rate")
    parser.add_argument("--switches", type=int, metavar="N", help="instead: model switches under 16 clients")
    options = parser.parse_args(arguments)
    try:
        options.cells = sorted({Cell.parse(text) for text in options.cells.split(",")}, reverse=True)
    except ValueError:
        parser.error(f"--cells {options.cells}: expected sizes and clients as in {_CELLS}")
    options.only = options.only.split(",")
    if unknown := [name for name in options.only if name not in contestants]:
        parser.error(f"unknown contestant {unknown[0]!r}; expected {', '.join(contestants)}")
    return options


def _endure(options: argparse.Namespace, scratch: Path, source: str, images: Sequence[bytes]) -> int:
    size = options.cells[0].size
    bundles = [make_detector(size, images, source, seed=seed) for seed in (0, 1)]
    rows = {}
    if options.soak:
        title = f"overload for {options.soak:g} minutes, {size} px"
        rows[title] = measure_soak(bundles[0].folder, images, scratch / "soak", options.soak * 60, options.seconds)
        print_rows(title, rows[title])
    if options.switches:
        title = f"{options.switches} model switches under 16 clients, {size} px"
        rows[title] = measure_switches(bundles, images, scratch / "switches", options.switches)
        print_rows(title, rows[title])
    if options.json:
        _write_json(
            options.json, {"parts": {title: [dataclasses.asdict(r) for r in part] for title, part in rows.items()}}
        )
    return int(any(row.met is False for part in rows.values() for row in part))


def _compare(options: argparse.Namespace, scratch: Path, source: str, images: Sequence[bytes]) -> int:
    results: dict[Cell, list[Result]] = {}
    verdicts: dict[str, list[Row]] = {}
    for size in sorted({cell.size for cell in options.cells}, reverse=True):
        cells = [cell for cell in options.cells if cell.size == size]
        bundle = make_detector(size, images, source)
        measured, own = _measure(bundle, images, cells, options, scratch / str(size))
        for cell in sorted(measured):
            results[cell] = measured[cell]
            print_cell(cell, measured[cell])
            for ours in (result for result in measured[cell] if result.contestant == OURS and result.rounds):
                verdicts[f"{cell}: {ours.title}"] = rows = check_targets(cell, ours, measured[cell])
                print_rows(f"  {ours.title}, judged", rows)
        verdicts[f"{size} px"] = own
        print_rows(f"{size} px: the process of ours, and noise", own)
    if options.json:
        document = {
            "images": source,
            "seconds": options.seconds,
            "rounds": options.rounds,
            "seed": options.seed,
            "cells": {str(cell): [dataclasses.asdict(result) for result in rows] for cell, rows in results.items()},
            "verdicts": {name: [dataclasses.asdict(row) for row in rows] for name, rows in verdicts.items()},
        }
        _write_json(options.json, document)
    if options.plot:
        from benchmarks.serving_plot import draw

        draw(results, options.plot)
    return int(any(row.met is False for rows in verdicts.values() for row in rows))


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps({"cores": cores(), **document}, indent=1) + "\n", encoding="utf-8")


# ---- measuring


class _Limit:
    """Upper limit of every server: decode, letterbox, engine and NMS on all cores, throughput hint, no HTTP."""

    def __init__(self, bundle: ModelBundle, images: Sequence[bytes]) -> None:
        self._detector = Detector(bundle.folder, THROUGHPUT, cores())
        self._images = images
        trials = {
            workers: self._run(workers, _TRIAL_SECONDS).throughput for workers in (cores(), cores() + 1, 2 * cores())
        }
        self.workers = max(trials, key=lambda workers: trials[workers])

    def run(self, seconds: float) -> Load:
        """Measure with the best number of threads."""
        return self._run(self.workers, seconds)

    def _run(self, workers: int, seconds: float) -> Load:
        begin = time.perf_counter()

        def work(worker: int) -> int:
            done = 0
            while time.perf_counter() - begin < seconds:
                self._detector.predict(self._images[(worker + done) % len(self._images)])
                done += 1
            return done

        with ThreadPoolExecutor(workers) as pool:
            done = sum(pool.map(work, range(workers)))
        return Load(done, time.perf_counter() - begin, p50=0.0, p99=0.0, errors=0)


def _measure(
    bundle: ModelBundle, images: Sequence[bytes], cells: Sequence[Cell], options: argparse.Namespace, scratch: Path
) -> tuple[dict[Cell, list[Result]], list[Row]]:
    """Return the results of every cell of one size, and the rows about our process."""
    predictor = Predictor(bundle)
    expected = [predictor.predict(image).to_dict()["detections"] for image in images]
    del predictor
    print(f"\n{bundle.card.preprocessing.width} px: {sum(map(len, expected)) / len(expected):.1f} boxes per image")
    limit = _Limit(bundle, images)
    wanted = {cell: _contestants(cell.clients, options.only) for cell in cells}
    with contextlib.ExitStack() as stack:
        servers = {}
        for contestant in dict.fromkeys(c for row in wanted.values() for c in row):
            if not contestant.is_installed:
                continue
            try:
                servers[contestant] = _start(stack, contestant, bundle, images, expected, scratch)
            except RuntimeError as error:
                if contestant.name not in PEERS:
                    raise
                # A failing peer must not lose the results of the others.
                print(f"  {contestant.title}: left out: {error}")
        for contestant, server in servers.items():
            kind = server.as_body(b"").content_type.partition(";")[0]
            print(f"  {contestant.title:34}ready after {server.ready_after:4.1f} s, gets {kind}")
        scripts = {c: _script(scratch, server, images) for c, server in servers.items()}
        loads: dict[Cell, dict[str, list[Load]]] = {cell: {} for cell in cells}
        idle: list[float] = []
        _load_first(servers, scripts, max(cell.clients for cell in cells), options.first_load)
        chance = random.Random(options.seed)
        for turn in range(options.rounds):
            for cell in cells:
                order: list[Contestant | None] = [None, *(c for c in wanted[cell] if c in servers)]
                chance.shuffle(order)
                for who in order:
                    title = who.title if who else LIMIT
                    if who is None:
                        before = sum(server.cpu() for server in servers.values())
                        load = limit.run(options.seconds)
                        idle.append((sum(server.cpu() for server in servers.values()) - before) / load.seconds)
                    else:
                        address = servers[who].address
                        run_wrk(address, scripts[who], cell.clients, options.warm_up)
                        settle(servers.values())
                        load = run_wrk(address, scripts[who], cell.clients, options.seconds)
                        settle(servers.values())
                    loads[cell].setdefault(title, []).append(load)
                    _progress(f"round {turn + 1} of {options.rounds}, {cell}: {title} {load.throughput:.1f}/s")
        own = next((_judge_process(server) for c, server in servers.items() if c == Contestant(OURS)), [])
    _progress("")
    results = {}
    for cell in cells:
        limits = loads[cell][LIMIT]
        results[cell] = [Result(LIMIT, f"limit: no HTTP, {limit.workers} threads", tuple(limits))]
        results[cell] += [_result(contestant, loads[cell].get(contestant.title, ())) for contestant in wanted[cell]]
    every = [load.throughput for found in loads.values() for load in found[LIMIT]]
    noise = [Row("noise: what all idle servers together took", sum(idle) / len(idle), "cores")]
    if len(every) > 1:
        noise.append(Row("noise: how far the limit itself varied", (max(every) - min(every)) / max(every), "of it"))
    return results, own + noise


def _load_first(
    servers: Mapping[Contestant, Server], scripts: Mapping[Contestant, Path], clients: int, seconds: float
) -> None:
    """Load each server once, so that one that adapts to its load has done so before it is measured."""
    for contestant, server in servers.items():
        _progress(f"first load: {contestant.title}")
        run_wrk(server.address, scripts[contestant], clients, seconds)
        settle(servers.values())


def _contestants(clients: int, only: Sequence[str]) -> list[Contestant]:
    """Return the contestants, with peers in the tuning that suits the cell, which their users would have to choose."""
    hint = LATENCY if clients == 1 else THROUGHPUT
    tunings = {OURS: ["", STARTED_BUSY], BASELINE: [LATENCY, THROUGHPUT]} | {name: [hint] for name in PEERS}
    return [Contestant(name, tuning) for name in (OURS, BASELINE, *PEERS) if name in only for tuning in tunings[name]]


def _start(
    stack: contextlib.ExitStack,
    contestant: Contestant,
    bundle: ModelBundle,
    images: Sequence[bytes],
    expected: Sequence[list[dict[str, Any]]],
    scratch: Path,
) -> Server:
    folder = scratch / contestant.title
    _progress(f"starting {contestant.title}")
    with busy_cores() if contestant.tuning == STARTED_BUSY else contextlib.nullcontext():
        if contestant.name == OURS:
            # The first start caches the compiled model and the tuning; the next start is timed.
            with start(contestant, bundle.folder, images[0], folder):
                pass
        server = stack.enter_context(start(contestant, bundle.folder, images[0], folder))
    # Two requests at once for each image, to detect mixed-up answers.
    with ThreadPoolExecutor(2 * len(images)) as pool:
        for number, found in enumerate(pool.map(server.ask, [*images, *images])):
            if not is_same(found, expected[number % len(images)]):
                raise RuntimeError(
                    f"{contestant.title}: other boxes than the predictor's in image {number % len(images)}"
                )
    return server


def _script(scratch: Path, server: Server, images: Sequence[bytes]) -> Path:
    folder = scratch / server.contestant.title / "bodies"
    folder.mkdir()
    return write_lua(folder, server.path, [server.as_body(image) for image in images])


def _result(contestant: Contestant, loads: Sequence[Load]) -> Result:
    if not loads:
        why = "did not start, see above" if contestant.is_installed else "not installed: make peers"
        return Result(contestant.name, f"{contestant.name}: {why}")
    return Result(contestant.name, contestant.title, tuple(loads))


def _judge_process(server: Server) -> list[Row]:
    ready, resident = server.ready_after, server.resident()
    return [
        Row("start to first answer, second start", ready, "s", f"<= {_READY_SECONDS:g}", ready <= _READY_SECONDS),
        Row("resident after the load", resident, "MB", f"< {_RESIDENT_MB:g}", resident < _RESIDENT_MB),
    ]


def _progress(text: str) -> None:
    """Print a line that replaces the previous one, only on a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


# ---- judging and showing


def best(results: Sequence[Result], names: Sequence[str]) -> Result | None:
    """Return the result with the highest median throughput of these contestants; None if all are missing."""
    return max((r for r in results if r.contestant in names and r.rounds), key=lambda r: r.throughput, default=None)


def ratio(ours: Result, other: Result) -> Spread:
    """Return the median of ours / other over the rounds, each a ratio of two loads of the same round."""
    return spread_of(
        [mine.throughput / max(its.throughput, 1e-9) for mine, its in zip(ours.rounds, other.rounds, strict=True)]
    )


def check_targets(cell: Cell, ours: Result, results: Sequence[Result]) -> list[Row]:
    """Return our targets in a cell; one is missed if the whole interval of the median misses it."""
    rows = []
    for who, names in (("FastAPI", (BASELINE,)), ("peer", PEERS)):
        other = best(results, names)
        if other:
            what = other.title.removeprefix("fastapi, ").partition(", ")[0]
            rows.append(_at_least(f"ours / best {who}: {what}", ratio(ours, other), TARGET))
    many = cell.clients >= 16
    limit = next(r for r in results if r.contestant == LIMIT)
    rows.append(_at_least("ours / limit", ratio(ours, limit), _LIMIT_SHARE if many else None))
    uneven = spread_of([load.p99 / load.p50 if load.p50 else float("inf") for load in ours.rounds])
    met = uneven.low <= _UNEVEN if many else None
    return [
        *rows,
        Row("p99 / p50", uneven.median, "x", f"<= {_UNEVEN:g}" if many else "", met, (uneven.low, uneven.high)),
        Row("errors", ours.errors, "", "0", ours.errors == 0),
    ]


def _at_least(what: str, spread: Spread, target: float | None) -> Row:
    met = None if target is None else spread.high >= target
    return Row(what, spread.median, "x", "" if target is None else f">= {target:g}", met, (spread.low, spread.high))


def print_cell(cell: Cell, results: Sequence[Result]) -> None:
    """Print a line per contestant, in 80 columns: medians of the rounds."""
    limit = next(r for r in results if r.contestant == LIMIT)
    print(f"\n{cell.size} px, {cell.clients} client{'s' * (cell.clients > 1)}")
    print(f"  {'':32}{'images/s':>9}{'of limit':>10}{'p50 ms':>9}{'p99 ms':>9}{'errors':>8}")
    for result in results:
        line = f"  {result.title:32}"
        if result.rounds:
            line += f"{result.throughput:9.1f}{ratio(result, limit).median:10.2f}"
        if result.rounds and result.contestant != LIMIT:
            line += f"{result.p50:9.1f}{result.p99:9.1f}{result.errors:8}"
        print(line.rstrip())
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
