"""The service as started by its command: a real run, a database that goes down, and a fuzz test of every route."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from deploy.control.__main__ import main
from deploy.control.app import create_app
from deploy.http.keys import KeyRole
from tests.conftest import ROOT
from tests.control.conftest import TestClient, header, write_use_case
from tests.control.test_processes import until
from tests.helpers.postgres import PASSWORD, postgres_server
from tests.helpers.programs import free_port
from tests.helpers.review import STEEL, png

ADMIN = {"X-API-Key": "adm"}


@contextmanager
def service(tmp_path: Path, *arguments: str) -> Iterator[httpx.Client]:
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "launch.cli",
        "control",
        "--port",
        str(port),
        "--configs",
        str(tmp_path / "configs"),
    ]
    environment = os.environ | {
        "VISIONOPS_HOME": str(tmp_path / "home"),
        "VISIONOPS_ADMIN_KEY": "adm",
        "PYTHONPATH": str(ROOT),
    }
    with (tmp_path / "service.log").open("ab") as log:
        process = subprocess.Popen([*command, *arguments], cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:

            def is_live() -> bool:
                assert process.poll() is None, (tmp_path / "service.log").read_text()
                try:
                    return client.get("/live").status_code == 200
                except httpx.TransportError:
                    return False

            until(is_live)
            yield client
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(30)


def test_a_real_training_that_outlives_a_killed_service_ends_where_the_next_one_looks(tmp_path: Path):
    write_use_case(tmp_path / "configs", "steel")
    with service(tmp_path) as client:
        where = client.post("/retrain", json={"use_case": "steel"}, headers=ADMIN).headers["Location"]
        until(lambda: client.get(where).json()["state"] == "running")
    with service(tmp_path) as client:
        run = until(lambda: (found := client.get(where).json())["state"] not in {"queued", "running"} and found)
        assert (run["state"], run["exit_code"]) == ("failed", 2), run
        assert run["message"].startswith("error: "), run
        assert "absent" in run["message"]
        assert client.get("/metrics").text.count('visionops_control_runs_total{kind="retrain",state="failed"} 1.0') == 1


def test_a_database_that_goes_down_is_503_and_readiness_says_so(opened, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with postgres_server() as server:
        monkeypatch.setenv("VISIONOPS_REVIEW_DATABASE", server.uri)
        with TestClient(create_app(opened()), base_url="http://line.example", client=("192.0.2.7", 5000)) as client:
            admin, line = header(KeyRole.ADMIN), header(KeyRole.FEEDBACK) | {"Content-Type": "image/png"}
            sent = {"params": {"use_case": STEEL.name}, "content": png(1), "headers": line | {"Idempotency-Key": "u1"}}
            assert client.get("/ready").json() == {"status": "ready"}
            server.stop()
            try:
                for method, path, given in (
                    ("GET", "/ready", {"headers": admin}),
                    ("GET", "/runs", {"headers": admin}),
                    ("POST", "/retrain", {"headers": admin, "json": {"use_case": "steel"}}),
                    ("POST", "/review/steel/claim", {"headers": admin}),
                    ("POST", "/review/items", sent),
                ):
                    answer = client.request(method, path, **given)
                    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable"), path
                    assert PASSWORD not in answer.text
                assert (
                    client.get("/ready", headers=admin).json()["error"]["message"].startswith("database: postgresql://")
                )
                assert client.get("/ready").json()["error"]["message"] == "database: cannot be reached"
                assert client.get("/live").status_code == 200
            finally:
                server.start()
            assert client.get("/ready").status_code == 200
            assert client.get("/runs", headers=admin).json() == []  # nothing half-written
            assert client.get("/review/items", headers=admin).json() == []
            assert client.post("/review/items", **sent).status_code == 201


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--configs", "/nowhere"], "is not a folder"),
        (["--launcher", "kubernetes"], "--job-template: is missing"),
        (["--port", "x"], "--port: "),
        (["--grace", "-1"], "--grace: "),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path))
    assert (
        main([*(["--configs", str(tmp_path)] if "--configs" not in arguments else []), "--port", "0", *arguments]) == 2
    )
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_no_request_of_the_schema_is_answered_otherwise_than_it_says(opened, configs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import schemathesis
        from hypothesis import HealthCheck, Phase, given, settings
        from schemathesis.specs.openapi import checks

        (configs / "steel.yaml").unlink()  # without use cases the registry's process is not needed
        app = create_app(opened())
        schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers=header(KeyRole.ADMIN))
        operations = [result.ok() for result in schema.get_all_operations()]
        assert len(operations) >= 24
        for operation in operations:

            @given(case=operation.as_strategy())
            @settings(
                max_examples=int(os.environ.get("VISIONOPS_CONTROL_FUZZ", "15")),
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def send(case: schemathesis.Case) -> None:
                # A schema does not say that an override needs a reason, nor is what is made up an image.
                case.call_and_validate(
                    headers=header(KeyRole.ADMIN),
                    excluded_checks=[checks.positive_data_acceptance, checks.unsupported_method],
                )

            send()
