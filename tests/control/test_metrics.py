"""Metrics of the queue, regardless of which service has added the runs."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta

import pytest

from deploy.control.app import create_app
from tests.control.conftest import TestClient
from tests.helpers.postgres import PASSWORD, postgres_server
from visionops.runs.states import Kind, RunRequest

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


def figures(client: TestClient) -> dict[str, float]:
    text = client.get("/metrics").text
    return {name: float(value) for name, value in re.findall(r"^visionops_control_(\w+) (\S+)$", text, re.MULTILINE)}


def test_stuck_runs_are_counted_apart_from_runs_that_wait_for_another(opened):
    control = opened(open_metrics=True)
    with TestClient(create_app(control), base_url="http://127.0.0.1") as client:
        found = figures(client)
        assert (found["queued_runs"], found["held_up_runs"], found["database_up"]) == (0, 0, 1)
        assert 'visionops_control_runs_total{kind="retrain",state="lost"} 0.0' in client.get("/metrics").text
        for number, use_case in enumerate(("steel", "steel", "casting")):
            run_request = RunRequest(Kind.ROLLBACK, use_case, reason="r")
            control.runs.add(run_request, "planner", f"k{number}", NOW + timedelta(seconds=number), lambda _: None)
        assert control.runs.waiting() == (3, 3)
        taken = control.runs.take("me", "here", NOW, NOW + timedelta(seconds=10))
        assert taken.request.use_case == "steel"
        found = figures(client)
        assert (found["queued_runs"], found["held_up_runs"]) == (2, 1)


def test_a_database_that_is_down_is_not_shown_as_an_empty_queue(opened, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with postgres_server() as server:
        monkeypatch.setenv("VISIONOPS_REVIEW_DATABASE", server.uri)
        with TestClient(create_app(opened(open_metrics=True)), base_url="http://127.0.0.1") as client:
            assert figures(client)["database_up"] == 1
            server.stop()
            try:
                found = figures(client)
            finally:
                server.start()
        assert found["database_up"] == 0
        assert math.isnan(found["queued_runs"])
        assert math.isnan(found["held_up_runs"])
