"""Run a real Airflow in its own environment (`make airflow`), and call its REST interface."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.helpers.programs import free_port, until

__all__ = ["AIRFLOW", "Airflow", "running_airflow"]

_TICK = 1.0
"""Seconds between two requests for a run's state: a run takes minutes, and each request costs Airflow processor
time."""
AIRFLOW = ROOT / ".airflow" / "bin" / "airflow"
_ENDED = frozenset({"success", "failed"})


class Airflow:
    """A running Airflow."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder

    def dags(self) -> dict[str, Any]:
        """Return each DAG that Airflow has loaded, keyed by its id."""
        return {dag["dag_id"]: dag for dag in self._get("dags?limit=100")["dags"]}

    def wait_for_dags(self, *names: str, seconds: float = 300.0) -> dict[str, Any]:
        """Wait until Airflow has loaded the DAGs; fail with its message about a broken one."""

        def look() -> dict[str, Any]:
            errors = self._get("importErrors")["import_errors"]
            assert not errors, errors
            known = self.dags()
            return known if set(names) <= set(known) else {}

        return until(look, seconds)

    def trigger(self, dag: str) -> str:
        """Start a DAG now; return the id of its run."""
        body = json.dumps({"logical_date": None}).encode()
        return str(self._get(f"dags/{dag}/dagRuns", body)["dag_run_id"])

    def runs(self, dag: str) -> list[dict[str, Any]]:
        """Return the runs of a DAG, oldest first."""
        return list(self._get(f"dags/{dag}/dagRuns?order_by=start_date&limit=50")["dag_runs"])

    def tasks(self, dag: str, run: str) -> dict[str, dict[str, Any]]:
        """Return the tasks of a run by their id."""
        found = self._get(f"dags/{dag}/dagRuns/{run}/taskInstances?limit=100")["task_instances"]
        return {task["task_id"]: task for task in found}

    def wait(self, dag: str, run: str, seconds: float = 1800.0) -> dict[str, dict[str, Any]]:
        """Wait until a run has ended; return its tasks."""
        until(lambda: self._get(f"dags/{dag}/dagRuns/{run}")["state"] in _ENDED, seconds, _TICK)
        return self.tasks(dag, run)

    def log(self, dag: str, run: str, task: str, number: int = 1) -> str:
        """Return the output of a try of a task, a line per event with its time."""
        found = self._get(f"dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/{number}?full_content=true")
        return "\n".join(f"{event.get('timestamp', '')} {event['event']}" for event in found["content"])

    def _get(self, path: str, body: bytes | None = None) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        request = urllib.request.Request(f"{self.url}/api/v2/{path}", data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            error.add_note(error.read().decode()[:1000])
            raise


@contextmanager
def running_airflow(folder: Path, dags: Path) -> Iterator[Airflow]:
    """Start Airflow's API server, scheduler and DAG processor; skip where `make airflow` was not run.

    Args:
        dags: Folder of DAGs.
    """
    if not AIRFLOW.is_file():
        pytest.skip("Airflow is absent: make airflow")
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {
        "CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "CORE__DAGS_FOLDER": str(dags),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "2",
        "API__HOST": "127.0.0.1",
        "API__PORT": str(port),
        "API__BASE_URL": url,
        "API__WORKERS": "1",
        "API_AUTH__JWT_SECRET": secrets.token_hex(16),
        "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",
        "DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "300",
        "CORE__DAGBAG_IMPORT_TIMEOUT": "240",
        "SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    environment = {"AIRFLOW_HOME": str(folder), "HOME": str(folder), "PATH": os.environ["PATH"]}
    environment |= {f"AIRFLOW__{name}": value for name, value in settings.items()}
    with ExitStack() as running:
        done = subprocess.run(
            [AIRFLOW, "db", "migrate"], env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        running.enter_context(_program(folder, environment, "api-server"))
        until(lambda: _answers(url), 600)
        running.enter_context(_program(folder, environment, "dag-processor"))
        running.enter_context(_program(folder, environment, "scheduler"))
        yield Airflow(url, folder)


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"{url}/api/v2/version", timeout=20) as answer:
        return bool(answer.status == 200)
    return False


@contextmanager
def _program(folder: Path, environment: dict[str, str], name: str) -> Iterator[None]:
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [AIRFLOW, name], env=environment, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(60)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)
