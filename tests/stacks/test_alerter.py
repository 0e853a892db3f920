"""Test the alerter flavor with a real Alertmanager."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.helpers.programs import MONITORING, alerter, alertmanager, free_port, get, until
from visionops.alerts import Alert, Severity, decision_alerts
from visionops.errors import StackError
from visionops.monitoring.policy import Observation, decide
from visionops.monitoring.settings import RetrainPolicy

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML warns of its own code

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


def shown(port: int) -> dict[tuple[str, str], dict]:
    """Return Alertmanager's alerts, by name and severity."""
    alerts = json.loads(get(port, "/api/v2/alerts")[1])
    return {(alert["labels"]["alertname"], alert["labels"]["severity"]): alert for alert in alerts}


def test_an_alert_arrives_with_its_text_and_ends_when_resolved(manager: int):
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

    def severities(seen: Observation) -> set[str]:
        teller.send(decision_alerts("steel", decide(seen, policy), seen, policy))
        return {severity for name, severity in shown(manager) if name == "VisionOpsDecision"}

    until(lambda: severities(NOTHING_LABELLED) == {"critical"})
    words = shown(manager)["VisionOpsDecision", "critical"]["annotations"]
    assert words["summary"] == "steel: monitoring asks for a person"
    assert words["description"] == decide(NOTHING_LABELLED, policy).sentence + "."
    until(lambda: severities(NOTHING_LABELLED.model_copy(update={"drift_share": 0.2})) == {"warning"})
    until(lambda: severities(NOTHING_LABELLED.model_copy(update={"drift_share": 0.0})) == set())


def test_zenmls_post_sends_an_alert(manager: int):
    assert alerter(url=f"http://127.0.0.1:{manager}").post("A step failed.\nIts trace.")
    assert (
        until(lambda: shown(manager).get(("VisionOpsMessage", "warning")))["annotations"]["summary"] == "A step failed."
    )


def test_without_an_alertmanager_the_unsent_alert_is_printed(capsys):
    alerter().send([DIRTY, dataclasses.replace(DIRTY, lasts=timedelta(0))])
    assert capsys.readouterr().err == "alert not sent, VISIONOPS_ALERTMANAGER is not set: a lens\n"
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
    with pytest.raises(StackError, match="Alertmanager cannot ask questions"):
        alerter().ask("Shall it be deployed?")
