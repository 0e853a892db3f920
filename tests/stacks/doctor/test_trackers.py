"""Test the checks of trackers other than MLflow, and of a registry at its own address."""

from __future__ import annotations

import pytest

from stacks.doctor.trackers import check_trackio, check_unknown_tracker, check_wandb
from stacks.doctor.tracking import check_registry
from stacks.spec import ComponentSpec, ComponentType
from tests.helpers.doctor import MLFLOW, examined, mlflow_answers, trouble, well
from tests.helpers.web import answering

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML, SQLAlchemy and MLflow warn of their own code

OFFLINE = {"init_kwargs": {"mode": "offline"}}


def wandb(orchestrator="local", **own):
    return examined("experiment_tracker", "wandb", orchestrator, api_key="good", **own)


def test_wandb_offline_is_its_folder(tmp_path):
    start = {"mode": "offline", "dir": str(tmp_path / "wandb")}
    assert str(tmp_path / "wandb") in well(check_wandb(wandb(init_kwargs=start)))
    (tmp_path / "wandb").write_text("")
    start["dir"] += "/below"
    assert trouble(check_wandb(wandb(init_kwargs=start))).startswith("broken: ")


def test_wandb_offline_in_pods_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    assert "runs are lost with their pods; set init_kwargs.mode" in trouble(check_wandb(wandb("kubernetes")))


@pytest.mark.parametrize(
    ("answer", "says"), [(401, "refuses the key (401); set a valid api_key"), (500, "fails (500); retry")]
)
def test_what_is_wrong_with_a_server_of_wandb_is_named(monkeypatch, answer, says):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with answering({"/graphql": answer}) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        assert says in trouble(check_wandb(wandb()))
        server.answers["/graphql"] = {"data": {"viewer": {"username": "me"}}}
        assert well(check_wandb(wandb())) == f"{server.url}: W&B answers"


def test_a_server_that_is_away_is_named(monkeypatch, nobody):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", nobody)
    assert "W&B does not answer (connection refused); set init_kwargs.mode to off" in trouble(check_wandb(wandb()))
    away = examined("experiment_tracker", "trackio", server_url=f"{nobody}/?write_token=secret")
    seen = trouble(check_trackio(away))
    assert "Trackio does not answer (connection refused); start it" in seen
    assert "secret" not in seen


def test_trackio_is_its_folder_or_its_server(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    assert str(tmp_path / "trackio") in well(check_trackio(examined("experiment_tracker", "trackio")))
    pods = examined("experiment_tracker", "trackio", "kubernetes")
    assert "runs are lost with their pods; set server_url" in trouble(check_trackio(pods))
    with answering({"/": {}}) as server:
        here = examined("experiment_tracker", "trackio", server_url=f"{server.url}/")
        assert well(check_trackio(here)) == f"{server.url}/: Trackio answers"
        server.answers["/"] = 500
        assert "fails (500); see its log" in trouble(check_trackio(here))


def test_a_tracker_without_an_adapter_is_broken():
    seen = trouble(check_unknown_tracker(examined("experiment_tracker", "comet")))
    assert seen == "broken: no adapter for flavor comet; use a tracker of flavor mlflow, trackio, wandb"


def test_a_registry_of_its_own_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "good")
    with answering(mlflow_answers(), authorization="Bearer good") as server:
        registry = examined("model_registry", "visionops_mlflow", uri=server.url)
        assert well(check_registry(registry)) == f"{server.url}: MLflow {MLFLOW}; {server.url}: its registry answers"
        tracker = ComponentSpec(name="x", flavor="mlflow", configuration={"tracking_uri": server.url})
        registry.stack.components[ComponentType.EXPERIMENT_TRACKER] = tracker
        assert well(check_registry(registry)) == "the tracker's server answers"
    local = examined("model_registry", "visionops_mlflow", uri=f"sqlite:///{tmp_path}/mlflow.db")
    assert str(tmp_path) in well(check_registry(local))
    pods = examined("model_registry", "visionops_mlflow", "kubernetes", uri=f"sqlite:///{tmp_path}/mlflow.db")
    assert "a database on this machine, but steps run elsewhere" in trouble(check_registry(pods))


def test_zenmls_own_registry_needs_an_mlflow_tracker():
    registry = examined("model_registry", "mlflow")
    assert "needs an MLflow tracker, which the stack lacks; use flavor visionops_mlflow" in trouble(
        check_registry(registry)
    )
    registry.stack.components[ComponentType.EXPERIMENT_TRACKER] = wandb().component
    assert "needs an MLflow tracker" in trouble(check_registry(registry))
