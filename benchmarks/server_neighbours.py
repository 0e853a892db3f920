"""Measure how a server gets on beside two trainings on the same cores.

Run it as ``python -m benchmarks.server_neighbours [--use-case steel] [--clients 4] [--seconds 20] [--rounds 3]`` on a
machine that does nothing else. The trainings start first and are paused (SIGSTOP) while the server is measured alone,
so that each round compares the same server and the same trainings within a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.contestants import OURS, Contestant, start
from benchmarks.load import Load, run_wrk, write_lua
from benchmarks.model import make_detector, make_images
from benchmarks.neighbours import ROOT, WAYS, training_command, training_environment
from benchmarks.rows import Row, cores, print_rows

__all__ = ["main"]

_TRAININGS = 2
_EPOCHS = 1000
"""More than the benchmark lasts: the trainings are killed at its end."""
_LEAST_RATE, _MOST_LATENCY = 0.4, 5.0
_START_SECONDS = 600.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print. Returns 1 when a target is missed, 2 when something needed is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server_neighbours", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--use-case", default="steel", choices=["sample", "steel"], help="what is trained [%(default)s]"
    )
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--way", default="default", choices=list(WAYS), help="environment of a training [%(default)s]")
    parser.add_argument("--size", type=int, default=640, help="input width and height of the model [%(default)s]")
    parser.add_argument("--clients", type=int, default=4, help="[%(default)s]")
    parser.add_argument("--seconds", type=float, default=20, help="of load, alone and beside, per round [%(default)s]")
    parser.add_argument("--rounds", type=int, default=3, help="[%(default)s]")
    given = parser.parse_args(arguments)
    alone: list[Load] = []
    beside: list[Load] = []
    try:
        source, images = make_images()
        bundle = make_detector(given.size, images, source)
        with (
            tempfile.TemporaryDirectory(prefix="visionops-neighbours-") as name,
            start(Contestant(OURS), bundle.folder, images[0], Path(name) / "server") as server,
            _trainings(given.use_case, given.data, given.way, Path(name)) as trainings,
        ):
            bodies = Path(name) / "bodies"
            bodies.mkdir()
            script = write_lua(bodies, server.path, [server.as_body(image) for image in images])
            for number in range(given.rounds):
                for kind, loads in ((signal.SIGSTOP, alone), (signal.SIGCONT, beside)):
                    for training in trainings:
                        os.killpg(training.pid, kind)
                    run_wrk(server.address, script, given.clients, 3)
                    loads.append(run_wrk(server.address, script, given.clients, given.seconds))
                _require_running(trainings)
                a, b = alone[-1], beside[-1]
                sys.stderr.write(
                    f"round {number + 1}: alone {a.throughput:.1f}/s, p50 {a.p50:.0f} ms, p99 {a.p99:.0f} ms; "
                    f"beside {b.throughput:.1f}/s, p50 {b.p50:.0f} ms, p99 {b.p99:.0f} ms\n"
                )
    except RuntimeError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    rate = statistics.median(b.throughput / a.throughput for a, b in zip(alone, beside, strict=True))
    spread = statistics.median(load.p99 / load.p50 for load in beside)
    rows = [
        Row("alone", statistics.median(load.throughput for load in alone), "/s"),
        Row("beside two trainings", statistics.median(load.throughput for load in beside), "/s"),
        Row("beside / alone", rate, "", f">= {_LEAST_RATE}", rate >= _LEAST_RATE),
        Row("p99 / p50 beside", spread, "", f"<= {_MOST_LATENCY:g}", spread <= _MOST_LATENCY),
    ]
    title = f"{given.size} px, {given.clients} clients; {given.use_case}, {given.way}"
    print_rows(f"{title}; {cores()} cores, {given.rounds} rounds", rows)
    return int(any(row.met is False for row in rows))


def _require_running(trainings: Sequence[subprocess.Popen[bytes]]) -> None:
    if any(training.poll() is not None for training in trainings):
        raise RuntimeError("a training ended before the measurement did")


@contextlib.contextmanager
def _trainings(use_case: str, data: Path, way: str, folder: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run trainings that have finished their first epoch, until the block ends."""
    running: list[subprocess.Popen[bytes]] = []
    try:
        for number in range(_TRAININGS):
            place = folder / f"training-{number}"
            place.mkdir()
            with (place / "log.txt").open("wb") as log:
                running.append(
                    subprocess.Popen(
                        training_command(use_case, data, place, _EPOCHS),
                        cwd=ROOT,
                        env=training_environment(place, way),
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )
        until = time.monotonic() + _START_SECONDS
        results = [folder / f"training-{number}" / "work" / "run" / "results.csv" for number in range(_TRAININGS)]
        while not all(path.exists() for path in results):
            for number, training in enumerate(running):
                if training.poll() is not None or time.monotonic() > until:
                    log_tail = (folder / f"training-{number}" / "log.txt").read_text(errors="replace")[-1500:]
                    raise RuntimeError(f"training {number} did not finish its first epoch:\n{log_tail}")
            time.sleep(0.5)
        yield running
    finally:
        for training in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(training.pid, signal.SIGKILL)
            training.wait()


if __name__ == "__main__":
    sys.exit(main())
