"""Alerts for people, and the stack component that sends them."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from visionops.monitoring.policy import Action, Decision, Level, Observation, broken_level
from visionops.monitoring.settings import RetrainPolicy

__all__ = ["DECISION", "Alert", "Alerter", "NotificationReport", "Severity", "decision_alerts"]

DECISION = "VisionOpsDecision"
"""Name of the alert that reports a decision of monitoring."""

_PAGE = "docs/how-to/alerts.md"
_DAY_AND_MORE = timedelta(hours=26)
"""Lifetime of an alert: daily monitoring sends it again before it ends."""


class Severity(enum.StrEnum):
    """How urgently somebody must look."""

    WARNING = "warning"
    CRITICAL = "critical"


@dataclasses.dataclass(frozen=True, slots=True)
class Alert:
    """A problem that people must know. A new alert replaces one with the same name, severity and use case."""

    name: str
    severity: Severity
    use_case: str
    summary: str
    """Summary in one line."""
    description: str
    runbook: str
    """Runbook that says what to do: a path in the repository and a heading."""
    lasts: timedelta = _DAY_AND_MORE
    """How long the alert stays active unless it is sent again; zero ends it."""


class NotificationReport(BaseModel):
    """Which alerts of monitoring reached people and Prometheus."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    problems: tuple[str, ...] = ()
    """Alerts that could not be sent, each with the fix."""


class Alerter(Protocol):
    """The stack component that sends alerts to people."""

    def send(self, alerts: Sequence[Alert]) -> None:
        """Send all alerts at once.

        Raises:
            StackError: The alerting service does not answer, or refuses them.
        """


def decision_alerts(
    use_case: str, decision: Decision, seen: Observation, policy: RetrainPolicy, lasts: timedelta = _DAY_AND_MORE
) -> tuple[Alert, ...]:
    """Return the alerts to send after a decision: one for the decision, and the end of those that no longer hold.

    The severity is critical when the share of drifted columns calls for a training, or when the gate's metric is below
    its critical level. The alert then suppresses the alerts of the Prometheus rules, so that people get one message.
    """
    is_below = broken_level(seen.performance, policy) is Level.CRITICAL
    is_grave = seen.drift_share >= policy.drift_share or is_below
    holds = None if decision.action is Action.NOTHING else Severity.CRITICAL if is_grave else Severity.WARNING
    return tuple(
        Alert(
            name=DECISION,
            severity=severity,
            use_case=use_case,
            summary=f"{use_case}: {_SUMMARIES[decision.action]}",
            description=f"{decision.sentence}.",
            runbook=f"{_PAGE}#{DECISION.lower()}",
            lasts=lasts if severity is holds else timedelta(0),
        )
        for severity in Severity
    )


_SUMMARIES = {
    Action.NOTHING: "monitoring sees nothing to do",
    Action.ALERT: "monitoring asks for a person",
    Action.RETRAIN: "monitoring trains again",
}
