"""What people are to be told, and the part of a stack that tells them."""

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
"""Name of the alert that tells what monitoring decided."""

_PAGE = "docs/how-to/alerts.md"
_DAY_AND_MORE = timedelta(hours=26)
"""Monitoring that runs daily says it again before it is over."""


class Severity(enum.StrEnum):
    """How soon somebody should look."""

    WARNING = "warning"
    CRITICAL = "critical"


@dataclasses.dataclass(frozen=True, slots=True)
class Alert:
    """What is wrong. Those of one name, severity and use case are one alert, of which the latest words count."""

    name: str
    severity: Severity
    use_case: str
    summary: str
    """One line."""
    description: str
    runbook: str
    """Where it stands what to do: a path of the repository and a heading."""
    lasts: timedelta = _DAY_AND_MORE
    """So long it is true, unless it is sent again; nothing: it is over."""


class NotificationReport(BaseModel):
    """Whether people and Prometheus heard what monitoring had to say."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    problems: tuple[str, ...] = ()
    """What could not be told, and the mend."""


class Alerter(Protocol):
    """The part of a stack that tells people."""

    def send(self, alerts: Sequence[Alert]) -> None:
        """Tell them, all at once.

        Raises:
            StackError: Who is to pass them on does not answer, or refuses them.
        """


def decision_alerts(
    use_case: str, decision: Decision, seen: Observation, policy: RetrainPolicy, lasts: timedelta = _DAY_AND_MORE
) -> tuple[Alert, ...]:
    """What is to be sent after a decision: one alert with its sentence, and the end of those that no longer hold.

    Critical from the share of drifted columns on that calls for a training, and below the critical level of the gate's
    metric, as the rules on these are: it keeps the rules' alerts back, so that people get one message.
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
