"""Settings for running pipelines on a schedule, if the orchestrator supports it: ``schedules`` of a use case."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from visionops.settings import Settings

__all__ = ["Cron", "SchedulesConfig"]

_CRON = re.compile(r"([\d*/,\-A-Za-z]+ ){4}[\d*/,\-A-Za-z]+")


def _check_cron(schedule: str) -> str:
    if not _CRON.fullmatch(schedule):
        raise ValueError(f"{schedule!r} is not a cron expression; expected one such as '15 6 * * *'")
    return schedule


Cron = Annotated[str, AfterValidator(_check_cron)]
"""Minute, hour, day of the month, month and day of the week."""


class SchedulesConfig(Settings):
    """Cron expressions; a pipeline without one does not run on a schedule."""

    training: Cron | None = None
    """When to train on the current data, such as '0 3 * * 0' for Sundays at 3."""
    monitoring: Cron | None = None
    """When to check the endpoint's traffic, and start the retraining if the policy says so."""
    retraining: Cron | None = None
    """When to retrain whatever monitoring has found; monitoring also decides on its own."""

    @property
    def is_empty(self) -> bool:
        """Return whether no pipeline has a schedule."""
        return not (self.training or self.monitoring or self.retraining)
