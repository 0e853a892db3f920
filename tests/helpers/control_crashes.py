"""Kill a control service at random times, with clients that record acknowledged requests, and check the invariants.

Service, queue, launcher and the process around each run are real. A run itself is short: it only records its begin and
its end.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import http.client
import json
import multiprocessing
import os
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil

from deploy.control import __main__ as program
from deploy.control import work
from deploy.control.runs.runner import Runner
from deploy.http.keys import Client, KeyRole, make_key
from tests.control.driver import WORK
from tests.helpers.pictures import encode, picture
from tests.helpers.programs import free_port, get, until
from tests.helpers.review import answer_of
from visionops.review.states import Verdict
from visionops.review_store.runs import SqlRunStore
from visionops.runs.states import ENDED, Run, RunState

CASES = 4
"""Number of use cases for training, ``case-0`` and so on; ``steel`` is reviewed."""
_ROLES = {"anna": KeyRole.FEEDBACK, "bea": KeyRole.REVIEW, "chen": KeyRole.ADMIN}
_SECONDS = "0.1"
_EXPORT_EVERY = 3


def serve(arguments: list[str], environment: Mapping[str, str], events: str) -> None:
    """Run the service, with short runs and a short lease."""
    os.environ.update(environment)

    def command(run: Run, _config: Path, _stack: str | None) -> list[str]:
        return [sys.executable, "-S", "-c", WORK, events, run.id, run.request.use_case, _SECONDS, ""]

    work.command_of = command  # type: ignore[assignment]
    work.Runner = functools.partial(Runner, lease=timedelta(seconds=1), tick_seconds=0.05)  # type: ignore[misc,assignment]
    sys.exit(program.main(arguments))


class Service:
    """Successive services on one port."""

    def __init__(self, folder: Path, configs: Path, environment: Mapping[str, str]) -> None:
        self.port, self.runs, self.events = free_port(), folder / "runs", folder / "events"
        made = {name: make_key(Client(name, role)) for name, role in _ROLES.items()}
        self.keys = {name: key for name, (key, _) in made.items()}
        (folder / "keys").write_text("\n".join(line for _, line in made.values()))
        places = {"configs": configs, "keys": folder / "keys", "runs": self.runs, "log-file": folder / "service.log"}
        self._arguments = ["--port", str(self.port)]
        for name, place in places.items():
            self._arguments += [f"--{name}", str(place)]
        self.environment = dict(environment)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__])
        self.process: BaseProcess | None = None

    def start(self) -> None:
        self.process = self._context.Process(
            target=serve, args=(self._arguments, self.environment, str(self.events)), daemon=True
        )
        self.process.start()

    def kill(self) -> None:
        assert self.process is not None
        assert self.process.is_alive(), "the service failed by itself"
        self.process.kill()
        self.process.join(60)
        # A run that is being started holds the port until it executes its own program.
        until(self._is_port_free)

    def _is_port_free(self) -> bool:
        try:
            socket.create_server(("127.0.0.1", self.port)).close()
        except OSError:
            return False
        return True

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join(60)

    def until_ready(self) -> None:
        until(lambda: get(self.port, "/ready")[0] == 200)


class Talker:
    """Client that uploads, claims, decides, exports, trains, promotes and rolls back, and repeats unacknowledged
    requests.

    Attributes:
        runs: Kind and use case of each acknowledged run, keyed by its id.
        answers: Number of answers by status, with the code of an error.
        steps: Number of acknowledged requests.
    """

    def __init__(self, service: Service, notes: Path, first: int, step: int) -> None:
        self._service, self._notes = service, notes
        self._first, self._step = first, step
        self.runs: dict[str, tuple[str, str]] = {}
        self.answers: Counter[str] = Counter()
        self.steps = 0
        self.problem: BaseException | None = None
        self._stopped = threading.Event()
        self._connection: http.client.HTTPConnection | None = None
        self._thread = threading.Thread(target=self._talk, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop after a last image whose requests are all acknowledged."""
        self._stopped.set()
        self._thread.join(120)
        assert not self._thread.is_alive()
        self.check()

    def check(self) -> None:
        if self.problem is not None:
            raise self.problem

    def _talk(self) -> None:
        number = self._first
        try:
            while not self._stopped.is_set():
                self._one(number)
                number += self._step
        except BaseException as error:  # noqa: BLE001 - the test raises it
            self.problem = error
        finally:
            self._close()

    def _one(self, number: int) -> None:
        verdict = list(Verdict)[1 + number % 2]  # there is no prediction, so nothing can be confirmed
        image = encode(picture(number, 48))
        item = self.ask("anna", f"add {number}", "/review/items?use_case=steel", image)["id"]
        self._note(done="add", number=number, item=item)
        self.ask("bea", f"claim {number}", f"/review/items/{item}/claim", {"lease_seconds": 86_400})
        answer = answer_of(verdict)
        said = {"verdict": verdict.value, "label": answer.label, "reason": answer.reason}
        self.ask("bea", f"decide {number}", f"/review/items/{item}/decide", said)
        self._note(done="decide", number=number, item=item, verdict=verdict)
        if number % _EXPORT_EVERY == _EXPORT_EVERY - 1:
            made = self.ask("chen", f"export {number}", "/review/steel/export", {})["version"]
            if made is not None:
                self._note(done="export", number=number, version=made["number"], items=made["num_items"])
        case = f"case-{number % CASES}"
        self._run("/retrain", number, case, {"use_case": case})
        if number % 2:
            self._run(f"/models/{case}/promote", number, case, {"version": str(number), "reason": "seen on line 3"})
        else:
            self._run(f"/models/{case}/rollback", number, case, {"reason": "worse on line 3"})

    def _run(self, path: str, number: int, case: str, run_request: dict[str, str]) -> None:
        what = path.rpartition("/")[2]
        answer = self.ask("chen", f"{what} {number}", path, run_request, refused=frozenset({"conflict"}))
        if answer:  # one training at a time may wait
            self.runs[answer["run"]] = (what, case)

    def ask(
        self,
        who: str,
        key: str,
        path: str,
        body: bytes | dict[str, Any],
        refused: frozenset[str] = frozenset(),
    ) -> dict[str, Any]:
        """Return the answer, repeating the request with the same key until there is one; {} for a refusal."""
        kind = "image/png" if isinstance(body, bytes) else "application/json"
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"X-API-Key": self._service.keys[who], "Idempotency-Key": key.replace(" ", "-"), "Content-Type": kind}
        while True:
            try:
                status, answer = self._send(path, data, headers)
            except (OSError, http.client.HTTPException) as error:
                self.answers[type(error).__name__] += 1
                self._close()
                time.sleep(0.02)
                continue
            code = answer["error"]["code"] if status >= 400 else ""
            self.answers[f"{status} {code}".strip()] += 1
            if status < 300:
                self.steps += 1
                return answer
            if code in refused:
                return {}
            assert (status, code) == (503, "unavailable"), (path, key, status, answer)
            time.sleep(0.02)

    def _send(self, path: str, data: bytes, headers: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._service.port, timeout=60)
        self._connection.request("POST", path, data, dict(headers))
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _note(self, **what: object) -> None:
        with self._notes.open("a") as file:  # one line is written by one call
            file.write(json.dumps(what) + "\n")


@contextlib.contextmanager
def talking(service: Service, notes: Path, talkers: int = 2) -> Iterator[list[Talker]]:
    """Run clients while the block runs, and wait at its end until all their requests are acknowledged."""
    made = [Talker(service, notes, number, talkers) for number in range(talkers)]
    notes.touch()
    for talker in made:
        talker.start()
    yield made
    for talker in made:
        talker.stop()


def kill_often(service: Service, talkers: list[Talker], kills: int, seed: int) -> None:
    """Kill the service this number of times at random times, sometimes while it starts."""
    chance = random.Random(seed)
    for _ in range(kills):
        if chance.random() < 0.15:
            threading.Event().wait(chance.uniform(0, 0.8))
        else:
            service.until_ready()
            before, wanted = steps_of(talkers), chance.randrange(0, 14)
            until(lambda: steps_of(talkers) >= before + wanted)  # noqa: B023 - called at once
            threading.Event().wait(chance.uniform(0, 0.02))
        service.kill()
        service.start()


def steps_of(talkers: list[Talker]) -> int:
    """Return the number of acknowledged requests."""
    for talker in talkers:
        talker.check()
    return sum(talker.steps for talker in talkers)


def check_runs(store: SqlRunStore, service: Service, talkers: list[Talker]) -> Counter[str]:
    """Assert that each acknowledged run exists once, started once and ended; return the number of each kind."""
    until(lambda: all(run.state in ENDED for run in _all(store)))
    acknowledged = {run: run_request for talker in talkers for run, run_request in talker.runs.items()}
    runs = _all(store)
    assert {run.id: (run.request.kind.value, run.request.use_case) for run in runs} == acknowledged
    assert len(runs) == len(acknowledged) == sum(len(talker.runs) for talker in talkers)
    others = [f"{run.request.kind} {run.state}: {run.message}" for run in runs if run.state is not RunState.SUCCEEDED]
    assert not others, others
    assert all(run.summary == {"use_case": run.request.use_case} for run in runs)
    events = [json.loads(line) for line in service.events.read_text().splitlines()]
    events.sort(key=lambda event: event["at"])
    for what in ("begin", "end"):
        assert Counter(one["run"] for one in events if one["what"] == what) == Counter(list(acknowledged))
    for case in {run.request.use_case for run in runs}:  # one at a time
        mine = [(one["what"], one["run"]) for one in events if one["use_case"] == case]
        assert [what for what, _ in mine] == ["begin", "end"] * (len(mine) // 2)
        assert [run for _, run in mine[::2]] == [run for _, run in mine[1::2]]
    _check_nothing_runs(service.runs)
    return Counter(kind for kind, _ in acknowledged.values())


def _check_nothing_runs(folder: Path) -> None:
    for path in folder.glob("*/lock"):
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def left() -> list[str]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and str(folder) in " ".join(process.cmdline()[3:]):
                    found.append(" ".join(process.cmdline()))
        return [line for line in found if "deploy.control.runs.child" in line or WORK in line]

    until(lambda: not left(), 10)


def _all(store: SqlRunStore) -> list[Run]:
    found = page = store.runs(limit=500)
    while page := store.runs(limit=500, after=page[-1].id) if page else []:
        found += page
    return found
