"""Pushed metrics, as a real Pushgateway returns them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.helpers.programs import pushed, pushgateway
from tests.helpers.traffic import compare_traffic
from visionops.errors import StackError
from visionops.monitoring.gateway import Pushgateway
from visionops.monitoring.metrics import METRICS, TrainingFigures, push_monitoring, push_pipeline
from visionops.monitoring.policy import Action, Estimate, Observation, Performance, decide
from visionops.monitoring.settings import PerformanceLevels, RetrainPolicy

CREATED = datetime(2026, 3, 1, tzinfo=UTC)
FALLEN = Performance(metric="map50", value=0.5, interval=(0.45, 0.55), at_test=0.65, images=200)
GUESS = Estimate(metric="map50", value=0.6, interval=(0.5, 0.7), at_test=0.65, images=100)
AGREED = RetrainPolicy(levels={"map50": PerformanceLevels(warning=0.6, critical=0.5)})
NOTHING_LABELLED = Observation(
    images=100,
    drift_share=0.3,
    embedding_drifted=False,
    drift="brightness fell",
    new_labels=0,
    age_days=3,
    hours_since_training=72,
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushgateway]:
    with pushgateway(tmp_path_factory.mktemp("pushgateway") / "run") as url:
        yield Pushgateway(url)


def test_a_run_of_monitoring_replaces_the_metrics_of_the_run_before(gateway: Pushgateway):
    report = compare_traffic()
    seen = NOTHING_LABELLED.model_copy(update={"performance": FALLEN, "estimate": GUESS})
    decision = decide(seen, RetrainPolicy())
    push_monitoring(gateway, "steel", report, seen, decision, "3", CREATED, finished=CREATED, policy=AGREED)
    figures = pushed(gateway.url, "steel")
    assert figures["visionops_drift_share",] == report.share > 0
    assert figures["visionops_drifted_columns",] == len(report.drifted_columns)
    assert figures["visionops_drift_column_drifted", "feature_brightness", "number"] == 1
    assert figures["visionops_drift_column_effect_ratio", "feature_brightness", "number"] > 1
    (column,) = report.drifted_columns
    of_column = ("feature_brightness", "number")
    assert figures["visionops_drift_column_p_value", *of_column] == column.p_adjusted < 0.05
    assert figures["visionops_drift_column_statistic", *of_column] == column.statistic
    assert figures["visionops_performance_high", "map50"] == 0.55
    assert {s: figures["visionops_performance_level", "map50", s] for s in ("warning", "critical")} == {
        "warning": 0.6,
        "critical": 0.5,
    }
    assert figures["visionops_estimated_performance", "map50"] == 0.6
    assert figures["visionops_estimated_performance_low", "map50"] == 0.5
    assert figures["visionops_champion_info", "3"] == 1
    assert figures["visionops_champion_created_timestamp_seconds",] == CREATED.timestamp()
    assert {action: figures["visionops_decision", action] for action in Action} == {
        action: float(action is decision.action) for action in Action
    }
    monitoring = {name for name in METRICS if not name.startswith(("visionops_pipeline", "visionops_training"))}
    assert {name for name, *_ in figures if not name.startswith("push_")} == monitoring
    few = NOTHING_LABELLED.model_copy(update={"performance": FALLEN.model_copy(update={"images": 20})})
    push_monitoring(gateway, "steel", report, few, decision, "3", CREATED)
    figures = pushed(gateway.url, "steel")
    assert figures["visionops_performance", "map50"] == 0.5
    assert ("visionops_performance_high", "map50") not in figures, "what alerts are made on"
    push_monitoring(gateway, "steel", report, few, decision, "3", CREATED, policy=RetrainPolicy(min_labelled=20))
    assert pushed(gateway.url, "steel")["visionops_performance_high", "map50"] == 0.55

    push_monitoring(gateway, "steel", report, NOTHING_LABELLED, decision, "4", CREATED)
    figures = pushed(gateway.url, "steel")
    assert ("visionops_champion_info", "3") not in figures
    assert ("visionops_performance", "map50") not in figures
    assert ("visionops_estimated_performance", "map50") not in figures


def test_what_a_gateway_refuses_is_an_error_in_one_line(gateway: Pushgateway):
    figures = TrainingFigures({"map50": 0.8}, {}, is_promoted=False)
    with pytest.raises(StackError, match="accepts no metrics") as caught:
        push_pipeline(
            Pushgateway(f"{gateway.url}/nowhere"),
            "training",
            "x",
            seconds=1,
            is_success=True,
            finished=CREATED,
            training=figures,
        )
    assert "\n" not in str(caught.value)
