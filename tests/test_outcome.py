"""How a run ended, as a real Pushgateway has it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import pipelines.outcome
from pipelines.outcome import told_to_prometheus
from tests.helpers.programs import free_port, pushed, pushgateway
from visionops.errors import ConfigError
from visionops.monitoring.metrics import METRICS

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML warns of its own code


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pushgateway(tmp_path_factory.mktemp("pushgateway") / "run") as url:
        yield url


def test_a_failed_run_keeps_the_figures_of_the_last_good_one(gateway: str, monkeypatch):
    monkeypatch.setattr(pipelines.outcome, "active_pushgateway", lambda: gateway)
    with told_to_prometheus("training", "faces") as summary:
        summary.update(
            metrics={"map50": 0.8, "latency_ms_p50": 3.0},
            headline=("map50",),
            splits={"train": 70, "test": 15},
            gate={"promote": True},
        )
    first = pushed(gateway, "faces")
    assert {name for name, *_ in first if name in METRICS} == {
        name for name in METRICS if name.startswith(("visionops_pipeline", "visionops_training"))
    }
    assert first["visionops_training_metric", "map50"] == 0.8
    assert first["visionops_training_images", "test"] == 15
    assert first["visionops_pipeline_succeeded",] == first["visionops_training_promoted",] == 1
    with pytest.raises(ConfigError), told_to_prometheus("training", "faces"):
        raise ConfigError("no")
    second = pushed(gateway, "faces")
    assert second["visionops_pipeline_succeeded",] == 0
    kept = "visionops_pipeline_last_success_timestamp_seconds"
    assert second[kept,] == first[kept,] < second["visionops_pipeline_last_run_timestamp_seconds",]
    assert second["visionops_training_metric", "map50"] == 0.8
    with pytest.raises(KeyboardInterrupt), told_to_prometheus("training", "faces"):
        raise KeyboardInterrupt
    assert pushed(gateway, "faces") == second


def test_a_gateway_that_cannot_be_reached_fails_no_run_and_is_named(capsys, monkeypatch):
    nobody = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setattr(pipelines.outcome, "active_pushgateway", lambda: nobody)
    with told_to_prometheus("training", "faces"):
        pass
    warning = capsys.readouterr().err
    assert warning.startswith(f"warning: Pushgateway {nobody}: takes no figures (")
    assert warning.count("\n") == 1
    monkeypatch.setattr(pipelines.outcome, "active_pushgateway", lambda: "")
    with told_to_prometheus("training", "faces"):
        pass
    assert capsys.readouterr().err == ""
