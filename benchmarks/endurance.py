"""Measure our server over a longer time: overload at twice the sustainable rate, and model switches under load."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import json
import time
import urllib.request
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.contestants import OURS, Contestant, Server, settle, start
from benchmarks.load import Body, Connection, open_loop, post, run_wrk, write_lua
from benchmarks.model import is_same
from benchmarks.rows import Row
from visionops.inference.autotune import stream_modes
from visionops.inference.bundle import ModelBundle
from visionops.inference.predictor import Predictor

__all__ = ["measure_soak", "measure_switches"]

_CLIENTS = 16
_IDLE_SECONDS = 2.0
"""Idle time after which a connection is not reused, because the server may be about to close it."""
_KEY = "benchmark-0123456789abcdef0123456789abcdef"
_LOST = 0
"""Status of a request whose connection broke or that got no answer."""
_PATIENCE = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class _Answer:
    at: float
    """Seconds since the start of the soak test."""
    status: int
    ms: float


def measure_soak(bundle: Path, images: Sequence[bytes], folder: Path, seconds: float, calm_seconds: float) -> list[Row]:
    """Measure twice the rate of 16 closed-loop clients, then normal load again.

    Args:
        seconds: Seconds of overload.
        calm_seconds: Seconds of normal load before and after.
    """
    with start(Contestant(OURS), bundle, images[0], folder) as server:
        bodies = [server.as_body(image) for image in images]
        script = write_lua(folder, server.path, bodies)
        run_wrk(server.address, script, _CLIENTS, min(2.0, calm_seconds))
        settle([server])
        before = run_wrk(server.address, script, _CLIENTS, calm_seconds)
        rest = _resident_at_rest(server)
        answers, memory, skipped, reasons = asyncio.run(_overload(server, bodies, 2 * before.throughput, seconds))
        settle([server])
        after = run_wrk(server.address, script, _CLIENTS, calm_seconds)
        end = server.resident()
    good = [a for a in answers if a.status == 200]
    refused = [a.ms for a in answers if a.status == 503]
    lost = len(answers) - len(good) - len(refused) + skipped
    for reason, count in reasons.most_common(3):
        print(f"  {count} x {reason}")
    thirds = [_p99(a.ms for a in good if third * seconds <= 3 * a.at < (third + 1) * seconds) for third in (0, 2)]
    growth, drift, back = max(memory) / rest - 1, thirds[1] / thirds[0], after.throughput / before.throughput
    return [
        Row("16 closed-loop clients before", before.throughput, "/s"),
        Row("offered", 2 * before.throughput, "/s"),
        Row("answered 200", len(good) / seconds, "/s"),
        Row("answered 503", len(refused) / seconds, "/s", "> 0", bool(refused)),
        Row("other statuses, broken, not even sent", lost, "", "0", lost == 0),
        Row("503: p50", _percentile(refused, 50), "ms"),
        Row("503: p99", _p99(refused), "ms", "<= 50", bool(refused) and _p99(refused) <= 50),
        Row("503: slowest", max(refused, default=float("nan")), "ms"),
        Row("accepted: p50", _percentile([a.ms for a in good], 50), "ms"),
        Row("accepted: p99", _p99(a.ms for a in good), "ms"),
        Row("accepted: p99, last third / first", drift, "x", "<= 1.5", drift <= 1.5),
        Row("resident before", rest, "MB"),
        Row("resident, most / before - 1", growth, "", "<= 0.10", growth <= 0.10),
        Row("resident after", end, "MB"),
        Row("16 clients after / before", back, "x", ">= 0.9", back >= 0.9),
        Row("errors after", after.errors, "", "0", after.errors == 0),
    ]


async def _overload(
    server: Server, bodies: Sequence[Body], rate: float, seconds: float
) -> tuple[list[_Answer], list[float], int, collections.Counter[str]]:
    """Return the answers, resident megabytes per second, requests that could not be started, and reasons of losses."""
    answers: list[_Answer] = []
    memory: list[float] = []
    idle: list[tuple[float, Connection]] = []
    reasons: collections.Counter[str] = collections.Counter()
    begin = time.perf_counter()

    async def send(number: int) -> None:
        while idle and time.perf_counter() - idle[-1][0] > _IDLE_SECONDS:
            idle.pop()[1].close()
        connection = idle.pop()[1] if idle else Connection(server.address)
        sent, status = time.perf_counter(), _LOST
        try:
            status, _ = await asyncio.wait_for(connection.post(server.path, bodies[number % len(bodies)]), _PATIENCE)
        except (OSError, TimeoutError, ValueError) as error:
            reasons[f"{type(error).__name__}: {error}"] += 1
        else:
            idle.append((time.perf_counter(), connection))
            if status not in {200, 503}:
                reasons[f"status {status}"] += 1
        now = time.perf_counter()
        answers.append(_Answer(now - begin, status, (now - sent) * 1000))

    async def watch() -> None:
        while True:
            memory.append(server.resident())
            await asyncio.sleep(1)

    watcher = asyncio.create_task(watch())
    skipped = await open_loop(rate, seconds, send)
    watcher.cancel()
    for _, connection in idle:
        connection.close()
    return answers, memory, skipped, reasons


def _p99(values: Iterable[float]) -> float:
    return _percentile(list(values), 99)


def _percentile(values: Sequence[float], share: float) -> float:
    return float(np.percentile(values, share)) if len(values) else float("nan")


def measure_switches(bundles: Sequence[ModelBundle], images: Sequence[bytes], folder: Path, switches: int) -> list[Row]:
    """Switch back and forth between two bundles while 16 clients send requests, and check every answer."""
    predictors = [Predictor(bundle) for bundle in bundles]
    truths = [[p.predict(image).to_dict()["detections"] for image in images] for p in predictors]
    del predictors
    with start(Contestant(OURS), bundles[0].folder, images[0], folder, {"VISIONOPS_ADMIN_KEY": _KEY}) as server:
        bodies = [server.as_body(image) for image in images]
        script = write_lua(folder, server.path, bodies)
        _await_modes(server)
        run_wrk(server.address, script, _CLIENTS, 3)  # in all modes, so that both values include memory of the work
        before = _resident_at_rest(server)
        watched = asyncio.run(_switch_under_load(server, bundles, bodies, truths, switches))
        end = _resident_at_rest(server)
    kept = end / before - 1
    for reason, count in watched.reasons.most_common(3):
        print(f"  {count} x {reason}")
    return [
        Row("answers", watched.answers, ""),
        Row("of the first model", watched.by_model[0], ""),
        Row("of the second", watched.by_model[1], "", "> 0", watched.by_model[1] > 0),
        Row("failed requests", watched.failed, "", "0", watched.failed == 0),
        Row("boxes of another model than named", watched.wrong, "", "0", watched.wrong == 0),
        Row("switches refused", watched.refused, "", "0", watched.refused == 0),
        Row("a switch takes, median", _percentile(watched.seconds, 50), "s"),
        Row("slowest answer", watched.slowest, "ms"),
        Row("resident before", before, "MB"),
        Row("resident after two switches", watched.resident_early, "MB"),
        Row("resident after", end, "MB"),
        Row("after / before - 1", kept, "", "<= 0.05", kept <= 0.05),
    ]


def _resident_at_rest(server: Server, seconds: float = 3.0) -> float:
    """Return the lowest value within some seconds without load, after all modes are compiled and memory is freed."""
    _await_modes(server)
    until, least = time.perf_counter() + seconds, server.resident()
    while time.perf_counter() < until:
        time.sleep(0.2)
        least = min(least, server.resident())
    return least


def _await_modes(server: Server) -> None:
    """Wait until the server has compiled all modes, which it does one by one after its start or a switch."""
    deadline = time.perf_counter() + _PATIENCE
    while time.perf_counter() < deadline:
        with urllib.request.urlopen(f"http://{server.address}/model", timeout=_PATIENCE) as response:
            mode = json.load(response)["mode"]
        if len(mode["compiled"]) == len(stream_modes(mode["threads"])):
            return
        time.sleep(0.2)
    raise RuntimeError(f"{server.address}: its modes were not compiled within {_PATIENCE:g} s: {mode}")


@dataclasses.dataclass(slots=True)
class _Watched:
    answers: int = 0
    by_model: list[int] = dataclasses.field(default_factory=lambda: [0, 0])
    failed: int = 0
    wrong: int = 0
    refused: int = 0
    slowest: float = 0.0
    seconds: list[float] = dataclasses.field(default_factory=list)
    resident_early: float = 0.0
    reasons: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


async def _switch_under_load(
    server: Server,
    bundles: Sequence[ModelBundle],
    bodies: Sequence[Body],
    truths: Sequence[Sequence[list[dict[str, object]]]],
    switches: int,
) -> _Watched:
    seen, over = _Watched(), asyncio.Event()

    async def ask(client: int) -> None:
        connection, number = Connection(server.address), client
        while not over.is_set():
            image = number % len(bodies)
            number += 1
            sent = time.perf_counter()
            try:
                status, content = await asyncio.wait_for(connection.post(server.path, bodies[image]), _PATIENCE)
            except (OSError, TimeoutError) as error:
                seen.failed += 1
                seen.reasons[f"{type(error).__name__}: {error}"] += 1
                continue
            seen.slowest = max(seen.slowest, (time.perf_counter() - sent) * 1000)
            if status != 200:
                seen.failed += 1
                seen.reasons[f"status {status}: {content[:100]!r}"] += 1
                await asyncio.sleep(0.05)
                continue
            answer = json.loads(content)
            # Switch n loads version n + 1; versions alternate between the two bundles.
            which = (int(answer["model"]["version"]) - 1) % 2
            seen.answers += 1
            seen.by_model[which] += 1
            seen.wrong += not is_same(answer["detections"], truths[which][image])
        connection.close()

    clients = [asyncio.create_task(ask(client)) for client in range(_CLIENTS)]
    for switch in range(1, switches + 1):
        order = {"bundle": str(bundles[switch % 2].folder), "name": "benchmark", "version": str(switch + 1)}
        body = Body(json.dumps(order).encode(), "application/json")
        began = time.perf_counter()
        try:
            await asyncio.to_thread(post, server.address, "/reload", body, {"X-API-Key": _KEY}, _PATIENCE)
        except (OSError, RuntimeError) as error:
            seen.refused += 1
            seen.reasons[str(error)] += 1
        seen.seconds.append(time.perf_counter() - began)
        if switch == 2:
            seen.resident_early = server.resident()
        await asyncio.sleep(0.2)
    over.set()
    await asyncio.gather(*clients)
    return seen
