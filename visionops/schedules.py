"""When pipelines run by themselves, where an orchestrator has a clock: the section ``schedules`` of a use case."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from visionops.settings import Settings

__all__ = ["Cron", "SchedulesConfig"]

_CRON = re.compile(r"([\d*/,\-A-Za-z]+ ){4}[\d*/,\-A-Za-z]+")


def _check_cron(schedule: str) -> str:
    if not _CRON.fullmatch(schedule):
        raise ValueError(f"{schedule!r} is no cron expression, as '15 6 * * *'")
    return schedule


Cron = Annotated[str, AfterValidator(_check_cron)]
"""Minute, hour, day of the month, month, day of the week."""


class SchedulesConfig(Settings):
    """Cron expressions; a pipeline without one does not run by the clock."""

    training: Cron | None = None
    """Train on what the data is then, as '0 3 * * 0' does on Sundays at 3."""
    monitoring: Cron | None = None
    """Look at the endpoint's traffic, and start the retraining where the policy says so."""
    retraining: Cron | None = None
    """Train again at this time, whatever monitoring has found; it decides on its own as well."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing runs by the clock."""
        return not (self.training or self.monitoring or self.retraining)
