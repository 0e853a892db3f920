"""Test the metrics of ended runs with a real Pushgateway."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator

import pytest
from zenml.enums import ExecutionStatus

from launch import RunSummary
from launch.run_metrics import run_with_metrics
from launch.summary import _count_steps
from tests.helpers.programs import free_port, pushed, pushgateway
from tests.helpers.tracking import evaluation
from visionops.errors import ConfigError
from visionops.gate.decision import GateDecision
from visionops.monitoring.gateway import Pushgateway
from visionops.monitoring.metrics import METRICS

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML warns of its own code


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushgateway]:
    with pushgateway(tmp_path_factory.mktemp("pushgateway") / "run") as url:
        yield Pushgateway(url)


def test_a_failed_run_keeps_the_figures_of_the_last_good_one(gateway: Pushgateway):
    per_class = {"eyes": {"instances": 9.0, "accuracy": 0.75, "recall": math.nan}}
    figures = {"map50": 0.8, "latency_ms_p50": 3.0}
    measured = dataclasses.replace(evaluation(), metrics=figures, per_class=per_class, headline=("map50",))
    promoted = GateDecision(promote=True, reason="", metric="map50", challenger=0.8, minimum=0, margin=0)
    splits = {"train": 70, "test": 15}
    steps = {"ran": 6, "cached": 2}
    trained = RunSummary("faces", "local", steps=steps, splits=splits, evaluation=measured, gate=promoted)

    def end(error: BaseException) -> Callable[[], RunSummary]:
        def run() -> RunSummary:
            raise error

        return run

    assert run_with_metrics(gateway, "training", "faces", lambda: trained) == trained
    first = pushed(gateway.url, "faces")
    assert {name for name, *_ in first if name in METRICS} == {
        name for name in METRICS if name.startswith(("visionops_pipeline", "visionops_training"))
    }
    assert first["visionops_training_metric", "map50"] == 0.8
    assert first["visionops_training_images", "test"] == 15
    assert first["visionops_training_class_metric", "eyes", "accuracy"] == 0.75
    assert not [key for key in first if "recall" in key or "instances" in key]
    assert {state: first["visionops_pipeline_steps", state] for state in steps} == steps
    assert first["visionops_pipeline_succeeded",] == first["visionops_training_promoted",] == 1
    with pytest.raises(ConfigError):
        run_with_metrics(gateway, "training", "faces", end(ConfigError("no")))
    second = pushed(gateway.url, "faces")
    assert second["visionops_pipeline_succeeded",] == 0
    kept = "visionops_pipeline_last_success_timestamp_seconds"
    assert second[kept,] == first[kept,] < second["visionops_pipeline_last_run_timestamp_seconds",]
    assert second["visionops_training_metric", "map50"] == 0.8
    with pytest.raises(KeyboardInterrupt):
        run_with_metrics(gateway, "training", "faces", end(KeyboardInterrupt()))
    assert pushed(gateway.url, "faces") == second


def test_a_gateway_that_cannot_be_reached_fails_no_run_and_is_named(capsys):
    nobody = Pushgateway(f"http://127.0.0.1:{free_port()}")
    done = RunSummary("faces", "local")
    run_with_metrics(nobody, "training", "faces", lambda: done)
    warning = capsys.readouterr().err
    assert warning.startswith(f"warning: Pushgateway {nobody.url}: accepts no metrics (")
    assert warning.count("\n") == 1
    run_with_metrics(Pushgateway(), "training", "faces", lambda: done)
    assert capsys.readouterr().err == ""


def test_steps_are_counted_by_whether_their_result_was_there():
    counted = _count_steps([ExecutionStatus.CACHED, ExecutionStatus.COMPLETED, ExecutionStatus.CACHED])
    assert counted == {"ran": 1, "cached": 2}
