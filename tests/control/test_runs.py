"""Routes of runs: queue, cooldown, keys, cancelling, and refusals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deploy.control.routes.context import Control
from deploy.http.keys import KeyRole
from tests.control.conftest import TestClient, header, write_use_case
from visionops.review.errors import Unavailable
from visionops.runs.states import RunState, advance

ADMIN = header(KeyRole.ADMIN)


def retrain(client: TestClient, key: str | None = None, **body: object):
    headers = ADMIN | ({"Idempotency-Key": key} if key else {})
    return client.post("/retrain", json={"use_case": "steel", **body}, headers=headers)


def finish(control: Control, state: RunState, ended: datetime) -> None:
    run = control.runs.take("test", control.launcher.place, ended, ended + timedelta(seconds=30))
    assert run is not None
    assert control.runs.end(advance(run, state, ended))


def test_a_training_is_queued_once_and_says_where_to_look(client: TestClient):
    first = retrain(client, "k1", reason="new labels")
    assert (first.status_code, first.json()["state"]) == (202, "queued")
    where = first.headers["Location"]
    again = retrain(client, "k1", reason="new labels")
    assert (again.status_code, again.headers["Location"]) == (202, where)
    assert retrain(client, "k1", reason="other").json()["error"]["code"] == "key_reused"
    assert retrain(client, "k2").status_code == 409  # one waits already
    run = client.get(where, headers=ADMIN).json()
    assert (run["actor"], run["reason"], run["kind"], run["step"]) == ("the-admin", "new labels", "retrain", None)
    assert [one["id"] for one in client.get("/runs?use_case=steel", headers=ADMIN).json()] == [run["id"]]
    assert client.get("/runs?use_case=other", headers=ADMIN).json() == []


class Registry:
    """Registry with fixed answers; tests/integration uses a real one."""

    def __init__(self) -> None:
        self.trained: list[datetime] = []
        self.calls = 0
        self.is_down = False

    def answer(self, names: tuple[str, ...]) -> dict[str, Any]:
        self.calls += 1
        if self.is_down:
            raise Unavailable("model registry: does not answer (TimeoutExpired); try again")
        versions = [{"trained": one.isoformat()} for one in self.trained]
        return {name: {"champion": None, "versions": versions if name == "steel" else []} for name in names}


@pytest.fixture
def registry(control: Control, configs: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Registry of the service; steel has a cooldown of a day."""
    write_use_case(configs, "steel", cooldown_hours=24)
    made = Registry()
    monkeypatch.setattr(control.models, "_query", made.answer)
    return made


def test_the_cooldown_holds_unless_a_reason_overrides_it(client: TestClient, control: Control, registry: Registry):
    retrain(client, override=True, reason="the first")
    finish(control, RunState.SUCCEEDED, datetime.now(UTC) - timedelta(hours=20))
    refused = retrain(client)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "cooling_down")
    assert "the next may begin in 4.0 h" in refused.json()["error"]["message"]
    assert 14_300 < int(refused.headers["Retry-After"]) <= 14_400
    assert retrain(client, override=True).json()["error"]["code"] == "invalid"
    assert retrain(client, override=True, reason="light has changed").status_code == 202
    assert registry.calls == 0  # the queue alone decides


def test_without_a_cooldown_a_training_that_ends_meanwhile_does_not_matter(client: TestClient, control: Control):
    retrain(client)
    finish(control, RunState.SUCCEEDED, datetime.now(UTC) + timedelta(seconds=5))
    assert retrain(client).status_code == 202


def test_a_training_that_was_started_elsewhere_cools_down_too(client: TestClient, registry: Registry):
    registry.trained = [datetime.now(UTC) - timedelta(hours=hours) for hours in (20, 90)]
    refused = retrain(client)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "cooling_down")
    assert "the next may begin in 4.0 h" in refused.json()["error"]["message"]
    assert retrain(client, override=True, reason="light has changed").status_code == 202
    assert registry.calls == 1


def test_a_training_that_was_accepted_stays_so(client: TestClient, control: Control, registry: Registry):
    registry.trained = [datetime.now(UTC) - timedelta(hours=25)]
    where = retrain(client, "k1").headers["Location"]
    registry.is_down = True
    control.models.forget()
    assert retrain(client, "k1").headers["Location"] == where
    assert client.post(f"{where}/cancel", headers=ADMIN).status_code == 202
    refused = retrain(client, "k2")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
    assert retrain(client, override=True, reason="the registry is away").status_code == 202


@pytest.mark.parametrize("state", [RunState.CANCELLED, RunState.LOST])
def test_what_did_not_end_by_itself_does_not_cool_down(
    client: TestClient, control: Control, registry: Registry, state: RunState
):
    retrain(client)
    finish(control, state, datetime.now(UTC))
    assert retrain(client).status_code == 202


def test_one_run_of_a_use_case_at_a_time(client: TestClient, control: Control, configs):
    write_use_case(configs, "plants")
    now = datetime.now(UTC)
    until = now + timedelta(seconds=30)
    assert retrain(client).status_code == 202
    rollback = client.post("/models/steel/rollback", json={"reason": "worse on line 3"}, headers=ADMIN)
    assert client.post("/retrain", json={"use_case": "plants"}, headers=ADMIN).status_code == 202
    taken = [control.runs.take(f"service {n}", "here", now, until) for n in range(4)]
    assert [run and (run.request.use_case, run.request.kind.value) for run in taken] == [
        ("steel", "retrain"),
        ("plants", "retrain"),
        None,
        None,
    ]
    assert client.get(rollback.headers["Location"], headers=ADMIN).json()["state"] == "queued"


def test_a_run_that_waits_is_cancelled_at_once(client: TestClient):
    where = retrain(client).headers["Location"]
    cancelled = client.post(f"{where}/cancel", headers=ADMIN)
    assert (cancelled.status_code, cancelled.json()["state"]) == (202, "cancelled")
    assert cancelled.json()["cancelled_by"] == "the-admin"
    assert client.post(f"{where}/cancel", headers=ADMIN).json()["state"] == "cancelled"
    assert retrain(client).status_code == 202


def test_a_promotion_has_a_reason_and_a_version(client: TestClient):
    url = "/models/steel/promote"
    for body, status in (
        ({"version": "3", "reason": "seen on line 3"}, 202),
        ({"version": "3"}, 422),
        ({"version": "3", "reason": "  "}, 422),
        ({"version": "-1; DROP", "reason": "x"}, 422),
        ({"version": "3", "reason": "x", "more": 1}, 422),
        ({"version": 3, "reason": "x"}, 422),
    ):
        assert client.post(url, json=body, headers=ADMIN).status_code == status, body


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"use_case": "../../etc/passwd"}', 404),
        (b'{"use_case": "steel\'; DROP TABLE control_runs; --"}', 404),
        (b'{"use_case": "steel\\u0000"}', 422),
        (b'{"use_case": "steel", "reason": "\\ud800"}', 422),
        (b'{"use_case": "steel", "reason": "' + b"x" * 1001 + b'"}', 422),
        (b'{"use_case": "steel", "reason": "' + b"x" * 3_000_000 + b'"}', 413),
        (b"{", 422),
        (b"[]", 422),
        (b"", 422),
        (b"\xff", 422),
        (b"[" * 100_000, 422),
    ],
)
def test_bad_bodies_are_refused_in_one_line(client: TestClient, body: bytes, status: int):
    answer = client.post("/retrain", content=body, headers=ADMIN | {"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert "\n" not in answer.json()["error"]["message"]
    assert client.get("/runs", headers=ADMIN).json() == []


def test_other_types_keys_and_runs_are_refused(client: TestClient):
    assert client.post("/retrain", content=b"x", headers=ADMIN | {"Content-Type": "text/plain"}).status_code == 415
    assert retrain(client, "a b").status_code == 422
    assert retrain(client, "x" * 201).status_code == 422
    for run in ("nope", "%00", "..%2f..%2fetc", "'%20OR%201=1"):
        assert client.get(f"/runs/{run}", headers=ADMIN).status_code == 404, run
    assert client.get("/runs?after=nope", headers=ADMIN).status_code == 404
    assert client.get("/runs?limit=0", headers=ADMIN).status_code == 422


def test_step_and_progress_are_read_from_the_log(client: TestClient, control: Control, tmp_path):
    where = retrain(client).headers["Location"]
    now = datetime.now(UTC)
    run = control.runs.take("test", control.launcher.place, now, now + timedelta(seconds=30))
    assert run is not None
    (tmp_path / "runs" / run.id).mkdir(parents=True)
    (tmp_path / "runs" / run.id / "log").write_text("• split 80/10/10\n  train: 3/10 loss 0.4\n")
    found = client.get(where, headers=ADMIN).json()
    assert (found["state"], found["step"], found["announced"]) == ("running", "train", "split 80/10/10")
    assert found["progress"] == {"done": 3, "total": 10, "note": "loss 0.4"}
    assert found["log_tail"].endswith("loss 0.4\n")
