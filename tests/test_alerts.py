"""Alerts that are sent after a decision."""

from __future__ import annotations

from datetime import timedelta

import pytest

from visionops.alerts import DECISION, Severity, decision_alerts
from visionops.monitoring.policy import Observation, Performance, decide
from visionops.monitoring.settings import RetrainPolicy

SEEN = Observation(
    images=100,
    drift_share=0.0,
    embedding_drifted=False,
    drift="",
    new_labels=100,
    age_days=3,
    hours_since_training=72,
)
POLICY = RetrainPolicy()
NEVER = timedelta(0)


BELOW = Performance(metric="accuracy", value=0.75, interval=(0.7, 0.79), at_test=0.76, images=200)


@pytest.mark.parametrize(
    ("changes", "severity", "summary"),
    [
        ({}, None, "steel: monitoring sees nothing to do"),
        ({"drift_share": 0.1}, Severity.WARNING, "steel: monitoring asks for a person"),
        ({"drift_share": 0.3, "new_labels": 0}, Severity.CRITICAL, "steel: monitoring asks for a person"),
        ({"drift_share": 0.3}, Severity.CRITICAL, "steel: monitoring trains again"),
        ({"performance": BELOW}, Severity.CRITICAL, "steel: monitoring asks for a person"),
        ({"embedding_drifted": True}, Severity.WARNING, "steel: monitoring trains again"),
    ],
)
def test_a_decision_holds_in_one_severity_and_is_over_in_the_other(changes, severity, summary):
    seen = SEEN.model_copy(update=changes)
    decision = decide(seen, POLICY)
    alerts = decision_alerts("steel", decision, seen, POLICY, timedelta(hours=3))
    assert {alert.severity: alert.lasts for alert in alerts} == {
        each: timedelta(hours=3) if each is severity else NEVER for each in Severity
    }
    assert {(alert.name, alert.use_case, alert.summary) for alert in alerts} == {(DECISION, "steel", summary)}
    assert {alert.description for alert in alerts} == {decision.sentence + "."}
