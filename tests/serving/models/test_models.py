"""Several models in one process: choice of the model, and model changes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from deploy.serving.models.registry import Models
from deploy.serving.models.startup import read_models
from tests.helpers.bundles import encode, make_bundle, make_label_bundle, picture
from tests.serving.conftest import KEY, TestClient, client_of, settings_of
from tests.serving.test_app import corrupt, error_of, metric, reload, send
from visionops.errors import BundleError, ConfigError
from visionops.inference.predictor import Predictor


def unload(client: TestClient, **order: object):
    return client.post("/unload", json=order, headers={"X-API-Key": KEY})


def until(condition: Callable[[], bool], seconds: float = 180.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """A classifier."""
    return make_label_bundle(tmp_path / "colours").folder


# By name and version


def test_models_answer_by_name(client: TestClient, colours: Path, red_cell: bytes):
    assert reload(client, colours, name="colours").status_code == 200
    assert "detections" in send(client, red_cell).json()
    assert "detections" in send(client, red_cell, model="cells").json()
    assert "classification" in send(client, red_cell, model="colours").json()
    assert client.get("/model").json()["task"] == "detection"
    assert client.get("/model", params={"model": "colours"}).json()["task"] == "classification"
    assert [(m["name"], m["default"]) for m in client.get("/models").json()] == [("cells", True), ("colours", False)]
    for response in (send(client, red_cell, model="x"), client.get("/model?model=x"), client.get("/ready?model=x")):
        assert (response.status_code, error_of(response)) == (404, "unknown_model")
        assert "available: cells, colours" in response.json()["error"]["message"]


def test_an_unloaded_model_is_gone_and_no_other_takes_its_requests(client: TestClient, colours: Path, red_cell: bytes):
    reload(client, colours, name="colours")
    assert [m["name"] for m in unload(client, name="cells").json()] == ["colours"]
    assert error_of(send(client, red_cell)) == "unknown_model"
    assert send(client, red_cell, model="colours").status_code == 200
    assert client.get("/ready").json()["model"]["name"] == "colours"
    assert metric(client, "visionops_ready") == 1
    assert unload(client, name="colours").json() == []
    assert error_of(client.get("/ready")) == "no_model"
    assert (metric(client, "visionops_ready"), metric(client, "visionops_models_missing")) == (0, 0)
    assert error_of(unload(client, name="colours")) == "unknown_model"
    assert error_of(unload(client, name="x", role="boss")) == "bad_reload"
    assert client.post("/unload", json={"name": "cells"}).status_code == 401


# Roles


def test_a_canary_answers_its_keys_and_says_so(client: TestClient, other_bundle: Path, red_cell: bytes):
    def versions(**headers: str) -> list[str]:
        answers = [client.post("/predict", files={"file": red_cell}, headers=headers | {"X-Request-Key": f"part-{n}"})
                   for n in range(40)]  # fmt: skip
        return [answer.json()["model"]["version"] for answer in answers]

    assert reload(client, other_bundle, role="canary", share=0.3).status_code == 200
    some = versions()
    assert 3 <= some.count("2") <= 24
    assert versions() == some
    assert reload(client, other_bundle, role="canary", share=0.7).status_code == 200
    more = versions()
    assert more.count("2") > some.count("2")
    assert all(now == "2" for before, now in zip(some, more, strict=True) if before == "2")
    seen = client.get("/model").json()
    assert (seen["version"], seen["roles"]["canary"]["version"], seen["roles"]["canary"]["share"]) == ("1", "2", 0.7)
    assert 'role="canary"' in client.get("/metrics").text
    assert unload(client, name="cells", role="canary").status_code == 200
    assert set(versions()) == {"1"}


def test_a_key_may_be_the_request_id(client: TestClient, other_bundle: Path, red_cell: bytes):
    reload(client, other_bundle, role="canary", share=0.5)
    for name in ("X-Request-Key", "X-Request-ID"):
        answers = [
            client.post("/predict", files={"file": red_cell}, headers={name: f"part-{n}"}).json()["model"]["version"]
            for n in range(12)
        ]
        assert set(answers) == {"1", "2"}


def broken_at_run_time(version: str, how: str) -> Callable[..., object]:
    """`Predictor.predict` that fails for one bundle after its smoke test has passed."""
    honest = Predictor.predict

    def predict(self: Predictor, *arguments, **options):
        prediction = honest(self, *arguments, **options)
        if self.bundle.card.metrics.get("version") == float(version):
            if how == "raises":
                raise RuntimeError("engine lost its device")
            prediction.scores[:] = np.nan
        return prediction

    return predict


@pytest.mark.parametrize("how", ["raises", "nan"])
def test_a_failing_canary_fails_no_request_and_is_withdrawn(client, tmp_path, red_cell, monkeypatch, how: str):
    bad = make_bundle(tmp_path / "bad", metrics={"version": 2.0}).folder
    assert reload(client, bad, role="canary", share=1.0, min_requests=5).status_code == 200
    monkeypatch.setattr(Predictor, "predict", broken_at_run_time("2", how))
    for _ in range(8):
        answer = send(client, red_cell)
        assert (answer.status_code, answer.json()["model"]["version"]) == (200, "1")
    seen = client.get("/model").json()
    assert set(seen["roles"]) == {"champion"}
    assert seen["last_return"]["reason"] == "error_rate"
    assert "failed on 100.0% of its last 5 images" in seen["last_return"]["message"]
    assert metric(client, 'visionops_canary_returns_total{name="cells",reason="error_rate"}') == 1
    assert metric(client, 'visionops_model_images_total{name="cells",outcome="failed",version="2"}') == 5


def test_a_bad_upload_is_not_the_canarys_fault(client: TestClient, other_bundle: Path, red_cell: bytes):
    reload(client, other_bundle, role="canary", share=1.0, min_requests=2, max_error_rate=0)
    for _ in range(5):
        assert send(client, b"no image").status_code == 422
    assert send(client, red_cell).json()["model"]["version"] == "2"


def test_a_champion_without_an_answer_says_so(client: TestClient, tmp_path, red_cell, monkeypatch):
    reload(client, make_bundle(tmp_path / "bad", metrics={"version": 2.0}).folder)
    monkeypatch.setattr(Predictor, "predict", broken_at_run_time("2", "nan"))
    answer = send(client, red_cell)
    assert (answer.status_code, error_of(answer)) == (500, "model_failed")


def test_a_shadow_is_compared_and_answers_no_request(client: TestClient, tmp_path: Path, red_cell: bytes):
    blind = make_bundle(tmp_path / "blind", class_names=("a", "b", "c")).folder
    assert reload(client, blind, role="shadow").status_code == 200
    empty = encode(picture())
    for image in (red_cell, empty):
        assert send(client, image).json()["model"]["version"] == "1"
    compared = 'visionops_shadow_images_total{name="cells",outcome="compared"}'
    until(lambda: compared in client.get("/metrics").text and metric(client, compared) == 2)
    assert metric(client, 'visionops_shadow_agreement_sum{name="cells"}') == 1.0  # nothing found by both; other names
    assert metric(client, 'visionops_shadow_duration_seconds_count{name="cells",role="shadow"}') == 2


def test_answers_do_not_wait_for_a_shadow(client: TestClient, tmp_path: Path, red_cell: bytes, monkeypatch):
    slow = make_bundle(tmp_path / "slow", metrics={"version": 2.0}).folder
    reload(client, slow, role="shadow")
    go_on, honest = threading.Event(), Predictor.predict

    def predict(self: Predictor, *arguments, **options):
        if self.bundle.card.metrics.get("version"):
            assert go_on.wait(180)
        return honest(self, *arguments, **options)

    monkeypatch.setattr(Predictor, "predict", predict)
    assert all(send(client, red_cell).status_code == 200 for _ in range(20))
    dropped = metric(client, 'visionops_shadow_images_total{name="cells",outcome="dropped"}')
    assert 3 <= dropped <= 4  # one in work or not yet, 16 in the queue
    go_on.set()


def test_roles_need_a_champion_of_their_task(client: TestClient, other_bundle: Path, colours: Path):
    for order in ({"name": "new", "role": "shadow"}, {"name": "new", "role": "canary", "share": 0.1}):
        response = reload(client, other_bundle, **order)
        assert (response.status_code, error_of(response)) == (409, "role_conflict")
    assert error_of(reload(client, colours, role="shadow")) == "role_conflict"
    for order in ({"role": "canary"}, {"share": 0.1}, {"role": "shadow", "min_requests": 3}, {"role": "boss"}):
        response = reload(client, other_bundle, **order)
        assert (response.status_code, error_of(response)) == (422, "bad_reload")


def test_a_canary_that_becomes_champion_loses_its_old_role(client: TestClient, other_bundle: Path):
    reload(client, other_bundle, role="canary", share=0.5)
    reload(client, other_bundle)
    seen = client.get("/model").json()
    assert (seen["version"], set(seen["roles"])) == ("2", {"champion"})


# Failures


def test_a_model_that_does_not_load_shows_until_one_does(client: TestClient, tmp_path, other_bundle, red_cell):
    bad = make_bundle(tmp_path / "bad").folder
    corrupt(bad)
    reload(client, bad, version="9")
    ready = client.get("/ready")
    assert ready.status_code == 200
    failure = ready.json()["models"][0]["last_failure"]
    assert (failure["version"], failure["code"], failure["role"]) == ("9", "bad_bundle", "champion")
    assert "sha256 differs" in failure["message"]
    assert client.get("/model").json()["last_failure"] == failure
    assert metric(client, 'visionops_model_load_failures_total{name="cells",reason="bad_bundle"}') == 1
    assert send(client, red_cell).json()["model"]["version"] == "1"
    reload(client, other_bundle)
    assert "last_failure" not in client.get("/ready").json()["models"][0]


def test_a_model_beyond_the_memory_is_refused(bundle: Path, other_bundle: Path, red_cell: bytes):
    with client_of(settings_of(bundle, max_memory_mb=100_000)) as client:
        assert reload(client, other_bundle).status_code == 200
    with client_of(settings_of(None, max_memory_mb=1)) as client:
        response = reload(client, bundle)
        assert (response.status_code, error_of(response)) == (507, "memory_cap")
        assert "more than its limit of 1 MB" in response.json()["error"]["message"]
        assert error_of(send(client, red_cell)) == "no_model"


def test_a_replaced_model_is_freed_when_its_last_request_ends(client, other_bundle, red_cell, monkeypatch):
    started, go_on, answer = threading.Event(), threading.Event(), Models.predict

    def hold(*arguments, **options):
        started.set()
        assert go_on.wait(180)
        return answer(*arguments, **options)

    monkeypatch.setattr(Models, "predict", hold)
    with ThreadPoolExecutor(1) as pool:
        early = pool.submit(send, client, red_cell)
        assert started.wait(180)
        reload(client, other_bundle)
        assert metric(client, "visionops_models_draining") == 1
        go_on.set()
        assert early.result(30).json()["model"]["version"] == "1"
    until(lambda: metric(client, "visionops_models_draining") == 0)


# From a file


@pytest.fixture
def models_file(tmp_path: Path) -> Iterator[Path]:
    """Two names: a good one with a canary, and one whose bundle is corrupt."""
    make_bundle(tmp_path / "one")
    make_bundle(tmp_path / "two", gain=1.5)
    corrupt(make_bundle(tmp_path / "bad").folder)
    file = tmp_path / "models.yaml"
    file.write_text("""
models:
  - {name: broken, version: "1", bundle: bad}
  - {name: broken, version: "2", bundle: two, role: shadow}
  - {name: cells, version: "1", bundle: one}
  - {name: cells, version: "2", bundle: two, role: canary, share: 1.0}
""")
    return file


def test_a_broken_model_of_a_file_does_not_stop_the_others(models_file: Path, red_cell: bytes):
    with client_of(settings_of(None, models=models_file)) as client:
        assert send(client, red_cell, model="cells").json()["model"]["version"] == "2"
        ready = client.get("/ready").json()
        assert [(m["name"], m["ready"]) for m in ready["models"]] == [("broken", False), ("cells", True)]
        assert "sha256 differs" in ready["models"][0]["last_failure"]["message"]
        for response in (client.get("/ready?model=broken"), send(client, red_cell), client.get("/model")):
            assert (response.status_code, error_of(response)) == (503, "no_model")
            assert "sha256 differs" in response.json()["error"]["message"]
        assert metric(client, 'visionops_model_load_failures_total{name="broken",reason="bad_bundle"}') == 1
        assert (metric(client, "visionops_ready"), metric(client, "visionops_models_missing")) == (1, 1)
        assert reload(client, models_file.parent / "one", name="broken").status_code == 200
        assert (metric(client, "visionops_ready"), metric(client, "visionops_models_missing")) == (1, 0)
        assert client.get("/ready?model=broken").status_code == 200


def test_a_file_of_which_nothing_loads_is_an_error(models_file: Path):
    models_file.write_text("models: [{name: broken, version: '1', bundle: bad}]")
    with pytest.raises(ConfigError, match=r"models\.yaml: no model loads; the first error: .*sha256 differs"):
        client_of(settings_of(None, models=models_file))
    with pytest.raises(BundleError, match="sha256 differs"):
        client_of(settings_of(models_file.parent / "bad"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: [", r"models.yaml:1: not valid YAML"),
        ("model: []", r"models.yaml:1: unknown key 'model'; did you mean 'models'"),
        ("models:\n- {name: a, version: '1'}", r"models.yaml:2: 'models.0.bundle' is missing"),
        (
            "models:\n- name: a\n  version: 1\n  bundle: x",
            r"models.yaml:3: models.0.version: expected a text; write it in quotes: '1' \(got 1\)",
        ),
        ("models:\n- name: a\n  version: '1'\n  bundle: x\n  sahre: 1", r"models.yaml:5: unknown key .*'share'"),
        ("models:\n- {name: a, version: '1', bundle: x, role: canary}", r"models.yaml:2: .*a canary needs one"),
        ("models:\n- {name: a, version: '1', bundle: x, role: shadow}", r"models.yaml:2: .*has no champion in this"),
        (
            "models:\n- {name: a, version: '1', bundle: x}\n- {name: a, version: '2', bundle: x}",
            r"models.yaml:3: .*'a' has a champion already",
        ),
        ("", r"models.yaml:1: is empty; write a line for each setting"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_line(tmp_path: Path, text: str, message: str):
    file = tmp_path / "models.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_models(file)
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read \(No such file"):
        read_models(tmp_path / "none.yaml")
