"""The hold of a release in a server: choice of the model, counts, and restarts."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.helpers.bundles import make_bundle
from tests.serving.conftest import KEY, TestClient, client_of, settings_of
from tests.serving.models.test_models import broken_at_run_time
from tests.serving.test_app import corrupt, error_of, metric, reload, send
from visionops.inference.predictor import Predictor
from visionops.inference.release_settings import ReleaseConfig
from visionops.monitoring.log_reading import read_log


def until(condition: Callable[[], bool], seconds: float = 180.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def release_of(client: TestClient) -> dict:
    return client.get("/release").json()


def ask(client: TestClient, image: bytes, number: int) -> dict:
    return client.post("/predict", files={"file": image}, headers={"X-Request-ID": f"part-{number}"}).json()


def canary(share: float = 0.5, **bounds: object) -> ReleaseConfig:
    return ReleaseConfig.model_validate({"strategy": "canary", "share": share, "min_requests": 5} | bounds)


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """A detector that never agrees with the champion."""
    return make_bundle(tmp_path / "strange", class_names=("a", "b", "c")).folder


def test_a_share_of_requests_is_answered_whatever_the_key(client: TestClient, other_bundle: Path, red_cell: bytes):
    assert reload(client, other_bundle, role="canary", share=0.5, split_by="request").status_code == 200
    headers = {"X-API-Key": KEY}
    versions = [
        client.post("/predict", files={"file": red_cell}, headers=headers).json()["model"]["version"] for _ in range(30)
    ]
    assert 4 <= versions.count("2") <= 26  # one key, and each request is drawn by itself
    seen = release_of(client)
    assert (seen["champion"], seen["candidate"], seen["strategy"], seen["share"]) == ("1", "2", "canary", 0.5)
    counted = {arm: figures["answered"] for arm, figures in seen["figures"].items()}
    assert counted == {"champion": versions.count("1"), "candidate": versions.count("2")}


def test_without_a_candidate_only_the_champion_is_reported(client: TestClient):
    seen = release_of(client)
    assert (seen["champion"], seen["candidate"], seen["strategy"]) == ("1", None, "switch")
    assert error_of(client.get("/release?model=x")) == "unknown_model"


def test_a_canary_that_disagrees_goes(client: TestClient, strange: Path, red_cell: bytes):
    reload(client, strange, role="canary", share=1.0, min_requests=5, min_agreement=0.8, max_latency_ratio=1000)
    sent = 0

    def is_gone() -> bool:
        nonlocal sent
        assert send(client, red_cell).status_code == 200
        sent += 1
        return "canary" not in client.get("/model").json()["roles"]

    until(is_gone)
    assert sent >= 5
    back = client.get("/model").json()["last_return"]
    assert back["reason"] == "disagreement"
    assert "agreed with the champion by 0.000 on its last 5 compared images, below 0.8" in back["message"]
    assert metric(client, 'visionops_canary_comparisons_total{name="cells",outcome="compared"}') >= 5
    assert metric(client, 'visionops_canary_agreement_sum{name="cells"}') == 0
    seen = release_of(client)
    assert (seen["breach"], seen["returned"]) == ("disagreement", back["message"])


def test_a_hold_goes_on_after_a_restart(bundle: Path, other_bundle: Path, red_cell: bytes, tmp_path: Path):
    # Too few requests for a verdict: on a busy machine one of the two can be slow by chance.
    release = canary(min_requests=100)
    settings = settings_of(
        bundle, cache=tmp_path / "cache", candidate=other_bundle, candidate_version="2", release=release
    )
    with client_of(settings) as first:
        for number in range(12):
            ask(first, red_cell, number)
        before = release_of(first)
    assert sum(figures["answered"] for figures in before["figures"].values()) == 12
    with client_of(settings) as second:
        assert {k: v for k, v in release_of(second).items() if k != "instance"} == {
            k: v for k, v in before.items() if k != "instance"
        }
        ask(second, red_cell, 12)
        assert sum(figures["answered"] for figures in release_of(second)["figures"].values()) == 13
    changed = settings.model_copy(update={"bundle": other_bundle, "candidate": bundle})
    with client_of(changed) as third:  # other models, another hold
        assert release_of(third)["figures"]["candidate"]["answered"] == 0


def test_a_candidate_that_was_sent_away_stays_away(bundle, other_bundle, red_cell, tmp_path, monkeypatch):
    bad = make_bundle(tmp_path / "bad", metrics={"version": 2.0}).folder
    settings = settings_of(
        bundle, cache=tmp_path / "cache", candidate=bad, candidate_version="2", release=canary(share=1.0)
    )
    with client_of(settings) as first:
        monkeypatch.setattr(Predictor, "predict", broken_at_run_time("2", "raises"))
        for number in range(6):
            assert ask(first, red_cell, number)["model"]["version"] == "1"
        figures = release_of(first)["figures"]
        assert figures["candidate"] == {"answered": 0, "failed": 5, "durations": {}}
    monkeypatch.undo()
    with client_of(settings) as second:
        assert ask(second, red_cell, 7)["model"]["version"] == "1"
        seen = second.get("/model").json()
        assert (set(seen["roles"]), seen["last_return"]["reason"]) == ({"champion"}, "error_rate")
        assert release_of(second)["breach"] == "error_rate"


def test_a_candidate_that_does_not_load_costs_nothing(bundle: Path, red_cell: bytes, tmp_path: Path):
    bad = make_bundle(tmp_path / "bad").folder
    corrupt(bad)
    settings = settings_of(bundle, candidate=bad, candidate_version="2", release=canary())
    with client_of(settings) as client:
        assert client.get("/ready").status_code == 200
        assert ask(client, red_cell, 1)["model"]["version"] == "1"
        seen = release_of(client)
        assert seen["candidate"] == "2"
        assert "sha256 differs" in seen["problem"]


def test_a_shadow_computes_its_share_and_is_counted(client: TestClient, other_bundle: Path, red_cell: bytes):
    assert reload(client, other_bundle, role="shadow", share=0.5).status_code == 200
    for number in range(24):
        assert ask(client, red_cell, number)["model"]["version"] == "1"
        until(client.app.state.serving.models._shadows._queue.empty)
    until(lambda: release_of(client)["agreement"]["images"] >= 3)
    seen = release_of(client)
    assert seen["strategy"] == "shadow"
    assert seen["agreement"]["images"] <= 21
    assert seen["figures"]["champion"]["answered"] == seen["figures"]["candidate"]["answered"]


def test_the_log_says_which_arm_answered(bundle: Path, red_cell: bytes, tmp_path: Path, monkeypatch):
    bad = make_bundle(tmp_path / "bad", metrics={"version": 2.0}).folder
    log = tmp_path / "log"
    with client_of(settings_of(bundle, prediction_log=log)) as client:
        ask(client, red_cell, 0)
        reload(client, bad, role="canary", share=0.5, split_by="request", min_requests=200)
        for number in range(1, 20):
            ask(client, red_cell, number)
        monkeypatch.setattr(Predictor, "predict", broken_at_run_time("2", "raises"))
        for number in range(20, 40):
            ask(client, red_cell, number)
    now = datetime.now(UTC)
    records = read_log(log, now - timedelta(hours=1), now + timedelta(hours=1), "cells", None, store=None).to_pylist()
    found = {(record["arm"], record["version"]) for record in records}
    assert found == {(None, "1"), ("champion", "1"), ("canary", "2"), ("fallback", "1")}
