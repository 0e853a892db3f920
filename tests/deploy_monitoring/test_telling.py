"""What pipelines tell a real Alertmanager and a real Pushgateway, and what is said where there is none."""

from __future__ import annotations

import dataclasses
import json
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

import pipelines.outcome
from pipelines.outcome import told_to_prometheus
from tests.deploy_monitoring.programs import MONITORING, alerter, alertmanager, free_port, get, pushgateway, until
from tests.helpers.traffic import compare_traffic
from visionops.alerts import Alert, Severity, decision_alerts
from visionops.errors import ConfigError, StackError
from visionops.monitoring.metrics import METRICS, TrainingFigures, push_monitoring, push_pipeline
from visionops.monitoring.policy import Action, Observation, Performance, RetrainPolicy, decide

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML warns of its own code

CREATED = datetime(2026, 3, 1, tzinfo=UTC)
FALLEN = Performance(metric="map50", value=0.5, interval=(0.45, 0.55), at_test=0.65)
NOTHING_LABELLED = Observation(
    images=100,
    drift_share=0.3,
    embedding_drifted=False,
    drift="brightness fell",
    new_labels=0,
    age_days=3,
    hours_since_training=72,
)
DIRTY = Alert("LensDirty", Severity.WARNING, "steel", "a lens", "Wipe it.", "docs/how-to/alerts.md")


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("alertmanager")
    config = folder / "alertmanager.yml"
    text = (MONITORING / "alertmanager" / "alertmanager.yml").read_text()
    config.write_text(text.replace("${VISIONOPS_ALERT_WEBHOOK}", "http://127.0.0.1:1/"))
    with alertmanager(folder / "run", config) as port:
        yield port


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pushgateway(tmp_path_factory.mktemp("pushgateway") / "run") as url:
        yield url


def shown(port: int) -> dict[tuple[str, str], dict]:
    """What Alertmanager has, by name and severity."""
    alerts = json.loads(get(port, "/api/v2/alerts")[1])
    return {(alert["labels"]["alertname"], alert["labels"]["severity"]): alert for alert in alerts}


def pushed(url: str, use_case: str) -> dict[tuple[str, ...], float]:
    """What the gateway has of a use case: metric and the values of its own labels, to its value."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=20) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {
            (
                s.name,
                *(v for k, v in sorted(s.labels.items()) if k not in {"job", "instance", "use_case", "pipeline"}),
            ): (s.value)
            for family in families
            for s in family.samples
            if s.labels.get("use_case") == use_case
        }


def test_an_alert_arrives_in_words_and_is_over_when_it_is_said_to_be(manager: int):
    teller = alerter(url=f"http://127.0.0.1:{manager}/")
    teller.send([DIRTY])
    seen = until(lambda: shown(manager).get(("LensDirty", "warning")))
    assert seen["labels"]["use_case"] == "steel"
    assert seen["annotations"] == {
        "summary": "a lens",
        "description": "Wipe it.",
        "runbook_url": "docs/how-to/alerts.md",
    }
    begin, end = (datetime.fromisoformat(seen[key]) for key in ("startsAt", "endsAt"))
    assert begin < datetime.now(UTC)
    assert abs(end - begin - DIRTY.lasts) < timedelta(seconds=2)
    teller.send([dataclasses.replace(DIRTY, lasts=timedelta(0))])
    until(lambda: ("LensDirty", "warning") not in shown(manager))


def test_a_decision_is_one_alert_at_a_time_and_none_when_there_is_nothing_to_do(manager: int):
    teller, policy = alerter(url=f"http://127.0.0.1:{manager}"), RetrainPolicy()

    def told(seen: Observation) -> set[str]:
        teller.send(decision_alerts("steel", decide(seen, policy), seen, policy))
        return {severity for name, severity in shown(manager) if name == "VisionOpsDecision"}

    until(lambda: told(NOTHING_LABELLED) == {"critical"})
    words = shown(manager)["VisionOpsDecision", "critical"]["annotations"]
    assert words["summary"] == "steel: monitoring asks for a person"
    assert words["description"] == decide(NOTHING_LABELLED, policy).sentence + "."
    until(lambda: told(NOTHING_LABELLED.model_copy(update={"drift_share": 0.2})) == {"warning"})
    until(lambda: told(NOTHING_LABELLED.model_copy(update={"drift_share": 0.0})) == set())


def test_zenmls_own_way_in_tells_too(manager: int):
    assert alerter(url=f"http://127.0.0.1:{manager}").post("A step failed.\nIts trace.")
    assert (
        until(lambda: shown(manager).get(("VisionOpsMessage", "warning")))["annotations"]["summary"] == "A step failed."
    )


def test_without_an_alertmanager_it_is_said_that_nobody_is_told(capsys):
    alerter().send([DIRTY, dataclasses.replace(DIRTY, lasts=timedelta(0))])
    assert capsys.readouterr().err == "nobody is told, for want of $VISIONOPS_ALERTMANAGER: a lens\n"
    assert not alerter().post("A step failed.")


def test_an_alertmanager_that_cannot_be_reached_or_refuses_is_named_in_one_line(manager: int):
    for url, says in (
        (f"http://127.0.0.1:{free_port()}", "does not answer"),
        (f"http://127.0.0.1:{manager}/nowhere", "refuses alerts"),
        ("nonsense", "does not answer"),
    ):
        with pytest.raises(StackError, match=says) as caught:
            alerter(url=url).send([DIRTY])
        assert url in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(StackError, match="Alertmanager brings no answers back"):
        alerter().ask("Shall it be deployed?")


def test_what_monitoring_saw_replaces_what_it_saw_before(gateway: str):
    report = compare_traffic()
    seen = NOTHING_LABELLED.model_copy(update={"performance": FALLEN})
    decision = decide(seen, RetrainPolicy())
    push_monitoring(gateway, "steel", report, seen, decision, "3", CREATED, finished=CREATED)
    figures = pushed(gateway, "steel")
    assert figures["visionops_drift_share",] == report.share > 0
    assert figures["visionops_drifted_columns",] == len(report.drifted_columns)
    assert figures["visionops_drift_column_drifted", "feature_brightness", "number"] == 1
    assert figures["visionops_drift_column_effect_ratio", "feature_brightness", "number"] > 1
    assert figures["visionops_performance_high", "map50"] == 0.55
    assert figures["visionops_champion_info", "3"] == 1
    assert figures["visionops_champion_created_timestamp_seconds",] == CREATED.timestamp()
    assert {action: figures["visionops_decision", action] for action in Action} == {
        action: float(action is decision.action) for action in Action
    }
    monitoring = {name for name in METRICS if not name.startswith(("visionops_pipeline", "visionops_training"))}
    assert {name for name, *_ in figures if not name.startswith("push_")} == monitoring
    push_monitoring(gateway, "steel", report, NOTHING_LABELLED, decision, "4", CREATED)
    figures = pushed(gateway, "steel")
    assert ("visionops_champion_info", "3") not in figures
    assert ("visionops_performance", "map50") not in figures


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


def test_what_a_gateway_refuses_is_an_error_in_one_line(gateway: str):
    figures = TrainingFigures({"map50": 0.8}, {}, is_promoted=False)
    with pytest.raises(StackError, match="takes no figures") as caught:
        push_pipeline(
            f"{gateway}/nowhere", "training", "x", seconds=1, is_success=True, finished=CREATED, training=figures
        )
    assert "\n" not in str(caught.value)
