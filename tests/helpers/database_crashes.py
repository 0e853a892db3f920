"""Kill a PostgreSQL server at random times under the control service, an intake and an index of a data set."""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from launch.review_intake import take_logs
from tests.helpers.control_crashes import Service, Talker, steps_of
from tests.helpers.pictures import encode, picture
from tests.helpers.postgres import Postgres
from tests.helpers.programs import get, until
from visionops.config import load_config
from visionops.monitoring.feedback import FeedbackLog
from visionops.review.errors import Unavailable
from visionops.review.likeness import SeenImage
from visionops.review.server_logs import ServerLogs
from visionops.review_store.opening import open_review

_SAID_FROM, _SEEN_FROM = 10_000_000, 20_000_000
"""First number of the pictures for feedback, and of those of the data set; uploads count from 0."""
_TOGETHER = 4
_SPEAKS_EVERY = 0.5
"""Seconds between two feedbacks. They add items, which are compared again, and too many delay exports."""


def run_intake(config: Path, log: Path, environment: Mapping[str, str]) -> None:
    """Run `visionops review intake --follow`."""
    os.environ.update(environment)
    os.dup2(os.open(log.with_suffix(".intake"), os.O_CREAT | os.O_WRONLY | os.O_APPEND), 2)
    os.dup2(2, 1)
    use_case = load_config(config)
    with open_review() as review:
        take_logs(review, use_case, ServerLogs(log), 0.2)


def index(folder: Path, notes: Path, environment: Mapping[str, str]) -> None:
    """Index a growing data set, like `visionops review index` in a loop."""
    os.environ.update(environment)
    folder.mkdir()
    with open_review() as review:
        assert review.similar is not None
        for first in range(_SEEN_FROM, 2**30, _TOGETHER):
            images = [_seen(folder, number) for number in range(first, first + _TOGETHER)]
            while True:
                try:
                    _, refused = review.similar.index("steel", images)
                    review.similar.recheck("steel")
                except Unavailable:
                    time.sleep(0.2)
                else:
                    break
            assert not refused
            with notes.open("a") as file:
                file.write("".join(f"{seen.sha256}\n" for seen, _ in images))
            time.sleep(0.2)


def _seen(folder: Path, number: int) -> tuple[SeenImage, Path]:
    data, path = encode(picture(number, 48)), folder / f"{number}.png"
    path.write_bytes(data)
    return SeenImage(hashlib.sha256(data).hexdigest(), "train", path.name), path


class Speaker:
    """A server's feedback: a comment on an image now and then, durable in its log before it counts."""

    def __init__(self, log: Path) -> None:
        self._log = FeedbackLog(log, segment_bytes=20_000)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._speak, daemon=True)
        self.said: list[str] = []

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(60)
        self._log.close()

    def _speak(self) -> None:
        for number in range(_SAID_FROM, 2**30):
            if self._stopped.wait(_SPEAKS_EVERY):
                return
            data, comment = encode(picture(number, 48)), f"comment {number}"
            record: dict[str, Any] = dict.fromkeys(("request_id", "version", "name"), "")
            record |= {"time": datetime.now(UTC), "id": f"{number:064x}", "content": comment, "comment": comment}
            record |= {"client": "line-3", "model": "steel", "answer_json": None, "label_json": None}
            record["sha256"] = hashlib.sha256(data).hexdigest()
            assert self._log.append(record, data)
            self.said.append(comment)


@contextlib.contextmanager
def working(folder: Path, config: Path, environment: Mapping[str, str]) -> Iterator[Speaker]:
    """Run a server with a growing log, its intake and an index, while the block runs; both must survive it."""
    context = multiprocessing.get_context("forkserver")
    log, seen = folder / "log", folder / "seen"
    log.mkdir()
    taken = log.with_suffix(".intake")
    for path in (seen, taken):
        path.touch()
    speaker = Speaker(log)
    processes = [
        context.Process(target=run_intake, args=(config, log, environment), daemon=True),
        context.Process(target=index, args=(folder / "data", seen, environment), daemon=True),
    ]
    for process in processes:
        process.start()
    try:
        # None of them starts without a database, so it is killed only after both have worked.
        until(lambda: seen.stat().st_size and taken.stat().st_size)
        speaker.start()
        yield speaker
        assert processes[0].is_alive(), taken.read_text()
        assert processes[1].is_alive(), "the index failed by itself"
    finally:
        speaker.close()
        for process in processes:
            process.kill()
            process.join(60)


def kill_often(server: Postgres, service: Service, talkers: list[Talker], kills: int, seed: int) -> Counter[str]:
    """Kill the server's postmaster, or another of its processes, this number of times; return the number of each."""
    chance, done = random.Random(seed), Counter[str]()
    assert service.process is not None
    pid = service.process.pid
    for kill in range(kills):
        before, wanted = steps_of(talkers), chance.randrange(1, 10)
        until(lambda: steps_of(talkers) >= before + wanted)  # noqa: B023 - called at once
        threading.Event().wait(chance.uniform(0, 0.1))
        if kill % 2:
            what = _kill_another(server, chance)
        else:
            what = "postmaster"
            server.kill()
            _check_refusals(service)
            threading.Event().wait(chance.uniform(0, 0.2))
            server.restart()
        done[what] += 1
        service.until_ready()
        assert service.process.is_alive()
        assert service.process.pid == pid
    return done


def _kill_another(server: Postgres, chance: random.Random) -> str:
    """Kill a process of the server that is not its postmaster, which then ends all others and recovers."""
    found = until(server.processes)
    pid = chance.choice(sorted(found))
    os.kill(pid, signal.SIGKILL)
    until(lambda: pid not in server.processes(), 60)
    return found[pid]


def _check_refusals(service: Service) -> None:
    """Assert the answers of clients while there is no server."""

    def code() -> tuple[int, str]:
        status, body = get(service.port, "/ready")
        return status, json.loads(body)["error"]["code"] if status >= 400 else ""

    assert code() == (503, "unavailable")
    assert get(service.port, "/live")[0] == 200
