"""Runs as real processes: started once, taken over after kill -9, cancelled, lost, and their folders."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.control.use_cases import UseCases
from tests.conftest import ROOT
from tests.control.conftest import write_use_case
from tests.control.driver import runner
from tests.helpers.disks import mounted
from tests.helpers.postgres import PASSWORD, postgres_server
from visionops.runs.states import ENDED, Kind, Run, RunRequest, RunState

SERVICES = 2
CASES = 4
"""Use cases."""


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if request.param == "sqlite":
        yield str(tmp_path / "review.db")
        return
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with postgres_server() as server:
        yield server.uri


def request_run(store: Any, number: int, use_case: str, reason: str = "0.2") -> Run:
    # A rollback: of trainings only one waits at a time.
    run: Run = store.add(
        RunRequest(Kind.ROLLBACK, use_case, reason), "test", f"k{number}", datetime.now(UTC), lambda _: None
    )
    return run


def events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def until(look: Callable[[], Any], seconds: float = 120.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def driver(database: str, tmp_path: Path) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "tests.control.driver", database, tmp_path / "runs", tmp_path / "events"]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert process.stdout is not None
    assert process.stdout.readline() == b"started\n"
    return process


@pytest.mark.kills
def test_services_that_are_killed_start_every_run_once(database: str, tmp_path: Path):
    _, store = runner(database, tmp_path / "runs", tmp_path / "events")
    chance, kills = random.Random(5), int(os.environ.get("VISIONOPS_KILLS", "2"))
    runs = [request_run(store, n, f"case {n % CASES}") for n in range(2 * max(kills, CASES))]
    services = [driver(database, tmp_path) for _ in range(SERVICES)]
    try:
        for _ in range(kills):
            time.sleep(chance.uniform(0, 0.6))
            victim = chance.randrange(SERVICES)
            services[victim].kill()
            services[victim].communicate()
            services[victim] = driver(database, tmp_path)
        until(lambda: all(run.state in ENDED for run in store.runs(limit=500)))
    finally:
        for service in services:
            service.kill()
            service.communicate()
    assert Counter(run.state for run in store.runs(limit=500)) == {RunState.SUCCEEDED: len(runs)}
    seen = events(tmp_path / "events")
    assert Counter(one["run"] for one in seen if one["what"] == "begin") == Counter(run.id for run in runs)
    for case in {run.request.use_case for run in runs}:  # one at a time
        whats = [one["what"] for one in sorted(seen, key=lambda one: one["at"]) if one["use_case"] == case]
        assert whats == ["begin", "end"] * (len(runs) // CASES)
    assert all(run.summary == {"use_case": run.request.use_case} for run in store.runs(limit=500))
    print(f"{kills} kills of {SERVICES} services: {len(runs)} runs, each begun once")  # noqa: T201
    store.close()


@pytest.fixture
def here(tmp_path: Path):
    made, store = runner(str(tmp_path / "review.db"), tmp_path / "runs", tmp_path / "events", grace=0.5)

    def ticked(run: Run, state: RunState) -> Run:
        def look() -> bool:
            made.tick()
            return bool(store.run(run.id).state is state)

        until(look)
        found: Run = store.run(run.id)
        return found

    yield store, ticked, tmp_path
    store.close()


def test_a_run_that_fails_says_its_last_line_and_blocks_nothing(here):
    store, ticked, _ = here
    first, second = request_run(store, 1, "steel", "0 fails"), request_run(store, 2, "steel", "0")
    failed = ticked(first, RunState.FAILED)
    assert (failed.exit_code, failed.message) == (1, "error: steel: no images")
    assert ticked(second, RunState.SUCCEEDED).exit_code == 0


def test_a_cancelled_run_is_interrupted(here):
    store, ticked, folder = here
    run = request_run(store, 1, "steel", "600")
    ticked(run, RunState.RUNNING)
    until(lambda: events(folder / "events"))
    store.cancel(run.id, "anna", datetime.now(UTC))
    found = ticked(run, RunState.CANCELLED)
    assert (found.cancelled_by, found.exit_code) == ("anna", 130)
    assert [one["what"] for one in events(folder / "events")] == ["begin", "interrupted, stop"]


def test_a_run_that_does_not_listen_is_killed(here):
    store, ticked, folder = here
    run = request_run(store, 1, "steel", "600 stubborn")
    ticked(run, RunState.RUNNING)
    until(lambda: events(folder / "events"))
    store.cancel(run.id, "anna", datetime.now(UTC))
    assert ticked(run, RunState.CANCELLED).exit_code is None
    pid = json.loads((folder / "runs" / run.id / "started").read_text())["pid"]
    with pytest.raises(ProcessLookupError):
        until(lambda: os.killpg(pid, 0))


def test_a_run_whose_process_is_gone_is_lost_and_blocks_nothing(here):
    store, ticked, folder = here
    run, second = request_run(store, 1, "steel", "600"), request_run(store, 2, "steel", "0")
    ticked(run, RunState.RUNNING)
    until(lambda: "train" in (folder / "runs" / run.id / "log").read_text() if events(folder / "events") else False)
    pid = json.loads((folder / "runs" / run.id / "started").read_text())["pid"]
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    lost = ticked(run, RunState.LOST)
    assert lost.message.startswith("its process is gone; the last line of its log: train: ")
    ticked(second, RunState.SUCCEEDED)


@pytest.mark.parametrize(
    ("number", "state", "words"),
    [
        (
            signal.SIGKILL,
            RunState.LOST,
            "its process was killed from outside (SIGKILL), as happens when memory runs out",
        ),
        (signal.SIGTERM, RunState.LOST, "its process was ended from outside by SIGTERM"),
        (signal.SIGSEGV, RunState.FAILED, "its process was ended by SIGSEGV"),
    ],
)
def test_a_run_that_a_signal_ends_says_which(here, number: signal.Signals, state: RunState, words: str):
    store, ticked, folder = here
    run = request_run(store, 1, "steel", "600")
    ticked(run, RunState.RUNNING)
    until(lambda: "train" in (folder / "runs" / run.id / "log").read_text() if events(folder / "events") else False)
    (worker,) = psutil.Process(json.loads((folder / "runs" / run.id / "started").read_text())["pid"]).children()
    worker.send_signal(number)
    found = ticked(run, state)
    assert (found.exit_code, found.message.partition("; the last line of its log: train: ")[0]) == (-number, words)


def fill(disk: Path) -> None:
    with suppress(OSError), (disk / "full").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 512)


def test_a_run_that_cannot_begin_on_a_full_disk_says_so_once(tmp_path: Path):
    with mounted(tmp_path / "disk", "size=64k") as disk:
        made, store = runner(str(tmp_path / "review.db"), disk / "runs", tmp_path / "events")
        fill(disk)
        run = request_run(store, 1, "steel", "0")
        until(lambda: made.tick() or store.run(run.id).state in ENDED)
        found = store.run(run.id)
        assert (found.state, found.exit_code) == (RunState.FAILED, None)
        assert found.message == (
            f"{disk}/runs: a run cannot be started there (No space left on device); free some space, or set --runs"
        )
        (disk / "full").unlink()
        second = request_run(store, 2, "steel", "0")
        until(lambda: made.tick() or store.run(second.id).state is RunState.SUCCEEDED)
        store.close()


def test_how_a_run_ended_is_known_on_a_disk_that_it_filled(tmp_path: Path):
    with mounted(tmp_path / "disk", "size=64k") as disk:
        made, store = runner(str(tmp_path / "review.db"), disk / "runs", tmp_path / "events")
        run = request_run(store, 1, "steel", "1.5")
        until(lambda: made.tick() or events(tmp_path / "events"))
        fill(disk)
        until(lambda: made.tick() or store.run(run.id).state in ENDED)
        found = store.run(run.id)
        assert (found.state, found.exit_code) == (RunState.FAILED, 1)
        assert found.message.startswith(f"the disk of {disk}/runs is full; ")
        store.close()


def test_a_run_whose_use_case_is_gone_fails_and_blocks_nothing(tmp_path: Path):
    write_use_case(tmp_path / "configs", "steel")
    cases = UseCases(tmp_path / "configs")
    made, store = runner(str(tmp_path / "review.db"), tmp_path / "runs", tmp_path / "events")
    work = made._command
    made._command = lambda run: cases.find(run.request.use_case) and work(run)
    run, second = request_run(store, 1, "plants", "0"), request_run(store, 2, "steel", "0")
    (tmp_path / "configs" / "plants.yaml").write_text("name: [")
    until(lambda: made.tick() or store.run(second.id).state is RunState.SUCCEEDED)
    found = store.run(run.id)
    assert found.state is RunState.FAILED
    assert found.message.startswith("use case plants: unknown; expected one of steel; 1 cannot be used, the first: ")
    assert "plants.yaml" in found.message
    store.close()


def test_a_run_whose_guard_alone_is_killed_still_counts_as_running(here):
    store, ticked, folder = here
    run = request_run(store, 1, "steel", "1.5")
    ticked(run, RunState.RUNNING)
    until(lambda: events(folder / "events"))
    os.kill(json.loads((folder / "runs" / run.id / "started").read_text())["pid"], signal.SIGKILL)
    second = request_run(store, 2, "steel", "0")
    ticked(run, RunState.LOST)  # nobody saw its exit code
    ticked(second, RunState.SUCCEEDED)
    whats = [(one["what"], one["run"]) for one in events(folder / "events")]
    assert whats[:2] == [("begin", run.id), ("end", run.id)]
