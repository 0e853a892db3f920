"""Measure the cost of the prediction log with the same server with and without it, in turns.

python -m benchmarks.prediction_log                 # some minutes on an idle machine
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.contestants import OURS, Contestant, Server, start
from benchmarks.load import Load, run_wrk, write_lua
from benchmarks.model import make_detector, make_images
from benchmarks.rows import Row, print_rows
from visionops.monitoring.log_reading import read_log

__all__ = ["main"]

_CLIENTS = (1, 16)


def main() -> int:
    """Measure and print.

    Returns:
        1 when a target is missed.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prediction_log", description=__doc__)
    parser.add_argument("--size", type=int, default=640, help="input size of the model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10, help="seconds per round")
    options = parser.parse_args()
    source, images = make_images()
    bundle = make_detector(options.size, images, source)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        servers: dict[str, Server] = {}
        for way, variables in (("without", {}), ("with", {"VISIONOPS_PREDICTION_LOG": str(folder / "predictions")})):
            starting = start(Contestant(OURS), bundle.folder, images[0], folder / way, variables)
            servers[way] = stack.enter_context(starting)
        script = write_lua(folder, "/predict", [servers["with"].as_body(image) for image in images])
        rows, answered = [], 1
        for clients in _CLIENTS:
            loads: dict[str, list[Load]] = {way: [] for way in servers}
            for _ in range(options.rounds):
                for way, server in servers.items():
                    loads[way].append(run_wrk(server.address, script, clients, options.seconds))
            answered += sum(load.requests - load.errors for load in loads["with"])
            rows += _rows(clients, loads)
        lost = answered - read_log(folder / "predictions").num_rows
        rows.append(Row("answers without a record", lost, "", "0", lost <= 0))
    print_rows(f"Prediction log, YOLOv8n {options.size}, {source}: medians of {options.rounds} rounds", rows)
    return int(any(row.met is False for row in rows))


def _rows(clients: int, loads: dict[str, list[Load]]) -> list[Row]:
    rate = {way: statistics.median(load.throughput for load in taken) for way, taken in loads.items()}
    p50 = {way: statistics.median(load.p50 for load in taken) for way, taken in loads.items()}
    share, more = rate["with"] / rate["without"], p50["with"] - p50["without"]
    who = f"{clients} client{'s' * (clients > 1)}"
    return [
        *(Row(f"{who}, {way}: throughput", rate[way], "1/s") for way in loads),
        Row(f"{who}: with / without", share, "", "≥ 0.95", share >= 0.95),
        *(Row(f"{who}, {way}: p50", p50[way], "ms") for way in loads),
        # With several clients, latency repeats the information of the throughput.
        Row(f"{who}: p50 more", more, "ms", "≤ 1" if clients == 1 else "", more <= 1 if clients == 1 else None),
    ]


if __name__ == "__main__":
    sys.exit(main())
