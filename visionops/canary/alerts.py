"""Build the alerts that are sent when a release ends."""

from __future__ import annotations

from datetime import timedelta

from visionops.alerts import Alert, Severity
from visionops.canary.holding import Held, Stage

__all__ = ["RETURNED", "release_alerts"]

RETURNED = "VisionOpsReleaseReturned"
"""Name of the alert for a candidate that was rolled back."""

_LASTS = timedelta(hours=26)


def release_alerts(held: Held) -> tuple[Alert, ...]:
    """Return the alerts to send after a look: one for a rolled-back candidate, or its end after a promotion.

    Empty while the release is still on hold.
    """
    state, version = held.state, held.version
    if state.stage not in {Stage.RETURNED, Stage.PROMOTED}:
        return ()
    holds = state.stage is Stage.RETURNED
    who = f" by {state.by}" if state.by else ""
    return (
        Alert(
            name=RETURNED,
            severity=Severity.WARNING,
            use_case=version.name,
            summary=f"{version.name}: version {version.version} was taken back from its release{who}",
            description=f"{state.reason}.",
            runbook=f"docs/how-to/alerts.md#{RETURNED.lower()}",
            lasts=_LASTS if holds else timedelta(0),
        ),
    )
