"""Check with a camera faster than the model that lag and memory stay bounded.

Run it as ``python -m benchmarks.stream [--seconds 600] [--rate 30] [--size 640] [--json FILE]``. Our server gets
640 x 480 JPEGs at a fixed rate over one WebSocket. The model is a YOLOv8n with an input of ``--size``. Its
sustained rate, one frame after another, is measured first: choose a size at which it is well below the camera's rate.

Lag is the time from sending a frame to its answer. A model of 13/s alone takes more than two periods of a camera of
30/s, so lag is judged in periods of the model: one frame is processed and one waits, so it must stay below 2. The wait
of a frame before processing is judged in periods of the camera.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from websockets.sync.client import ClientConnection, connect

from benchmarks.contestants import OURS, Contestant, Server, settle, start
from benchmarks.model import make_detector, make_images
from benchmarks.rows import Row, cores, print_rows

__all__ = ["AnsweredFrame", "main", "measure", "rows_of"]

_TRIAL_SECONDS = 4.0
_WARM_SECONDS = 5.0
_PATIENCE = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class AnsweredFrame:
    """One answered frame."""

    number: int
    at: float
    """Seconds from the first frame to the answer."""
    lag: float
    """Seconds from sending to the answer."""
    waited: float
    """Part of the lag, in seconds, before processing and in transit."""


@dataclasses.dataclass(slots=True)
class CameraResult:
    """Results of one run at the camera."""

    sent: int = 0
    dropped: int = 0
    refused: int = 0
    late: int = 0
    """Frames that the camera itself sent a period too late; many mean that the machine was too busy."""
    answers: list[AnsweredFrame] = dataclasses.field(default_factory=list)
    resident: list[float] = dataclasses.field(default_factory=list)
    """Resident megabytes of the server, each second."""


def sustained(stream: ClientConnection, images: Sequence[bytes], seconds: float) -> float:
    """Return the frames per second when each frame is sent after the previous answer."""
    begun = time.perf_counter()
    for answered, image in enumerate(itertools.cycle(images), start=1):
        stream.send(image)
        stream.recv(timeout=_PATIENCE)
        if (passed := time.perf_counter() - begun) > seconds:
            return answered / passed
    raise AssertionError


def measure(server: Server, images: Sequence[bytes], rate: float, seconds: float) -> CameraResult:
    """Send frames at a fixed rate, and read the answers."""
    seen, sent_at = CameraResult(), [0.0]
    with _open(server) as stream:
        begun = time.perf_counter()

        def read() -> None:
            for message in stream:
                now, answer = time.perf_counter(), json.loads(message)
                seen.dropped = answer["dropped"]
                if "error" in answer:
                    seen.refused += 1
                    continue
                lag = now - sent_at[answer["frame"]]
                waited = lag - answer["timing_ms"]["total"] / 1000
                seen.answers.append(AnsweredFrame(answer["frame"], now - begun, lag, waited))

        reader = threading.Thread(target=read)
        reader.start()
        next_look = 0.0
        for number, image in zip(range(round(seconds * rate)), itertools.cycle(images), strict=False):
            due = begun + number / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            sent_at.append(now := time.perf_counter())
            seen.late += now - due > 1 / rate
            stream.send(image)
            if now - begun >= next_look:
                seen.resident.append(server.resident())
                next_look += 1
        seen.sent = len(sent_at) - 1
        _wait_for_last(seen)
    reader.join(_PATIENCE)
    return seen


def rows_of(seen: CameraResult, rate: float, sustains: float, seconds: float) -> list[Row]:
    """Return the rows of a run with their targets."""
    lags = np.array([answer.lag for answer in seen.answers])
    waits = np.array([answer.waited for answer in seen.answers])
    at = np.array([answer.at for answer in seen.answers])
    per_second = len(lags) / seconds
    p99, wait_p99 = float(np.percentile(lags, 99)), float(np.percentile(waits, 99))
    first, last = lags[at < seconds / 3], lags[at >= 2 * seconds / 3]
    drift = float(np.median(last) / np.median(first))
    warm = seen.resident[min(len(seen.resident) - 1, int(_WARM_SECONDS)) :]
    growth = max(warm) / warm[0] - 1
    lost = seen.sent - len(seen.answers) - seen.dropped - seen.refused
    return [
        Row("sustained, one frame after another", sustains, "/s"),
        Row("camera", rate, "/s"),
        Row("sent", seen.sent, "frames"),
        Row("answered", per_second, "/s"),
        Row("dropped for newer ones", seen.dropped / seen.sent, "share"),
        Row("refused", seen.refused, "frames", "0", seen.refused == 0),
        Row("neither answered, dropped nor refused", lost, "frames", "0", lost == 0),
        Row("lag: p50", float(np.percentile(lags, 50)) * 1000, "ms"),
        Row("lag: p99", p99 * 1000, "ms"),
        Row("lag: p99, in periods of the model", p99 * per_second, "frames", "<= 2", p99 * per_second <= 2),
        Row("lag: p99, in periods of the camera", p99 * rate, "frames"),
        Row("wait before work: p99, periods of the camera", wait_p99 * rate, "frames", "<= 2", wait_p99 * rate <= 2),
        Row("lag: median, last third / first", drift, "x", "<= 1.2", drift <= 1.2),
        Row("resident after 5 s", warm[0], "MB"),
        Row("resident, most / after 5 s - 1", growth, "", "<= 0.05", growth <= 0.05),
        Row("sent a period too late by the camera", seen.late / seen.sent, "share"),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return 1 if a target is missed."""
    parser = argparse.ArgumentParser(description="A camera that is faster than the model.")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--rate", type=float, default=30.0, help="frames per second of the camera")
    parser.add_argument("--size", type=int, default=640, help="input width and height of the model, in pixels")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args(arguments)
    source, images = make_images()
    bundle = make_detector(options.size, images, source)
    with (
        tempfile.TemporaryDirectory() as folder,
        start(Contestant(OURS), bundle.folder, images[0], Path(folder, "server")) as server,
    ):
        with _open(server) as stream:
            sustained(stream, images, 1.0)
            found = sustained(stream, images, _TRIAL_SECONDS)
        settle([server])
        seen = measure(server, images, options.rate, options.seconds)
    rows = rows_of(seen, options.rate, found, options.seconds)
    print_rows(f"{options.seconds:g} s of {source}, YOLOv8n at {options.size}, {cores()} cores", rows)
    if options.json:
        options.json.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1))
    return int(any(row.met is False for row in rows))


def _open(server: Server) -> Any:
    return connect(f"ws://{server.address}/stream", compression=None, ping_interval=None)


def _wait_for_last(seen: CameraResult) -> None:
    end = time.perf_counter() + _PATIENCE
    while time.perf_counter() < end:
        if seen.answers and seen.answers[-1].number == seen.sent:
            return
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
