"""Implement `visionops review intake`: import server logs once, or repeatedly until interrupted."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from visionops.errors import DataError, VisionOpsError, one_line

# Imported late, so that `visionops --help` does not wait for SQLAlchemy and pyarrow.
if TYPE_CHECKING:
    from visionops.config import Config
    from visionops.review.intake import IntakeResult
    from visionops.review.server_logs import ServerLogs
    from visionops.review.service import Review

__all__ = ["server_logs", "take_logs"]

_MOST_REFUSALS = 10


def server_logs(use_case: Config, place: str | None) -> ServerLogs:
    """Return the logs at ``place``, by default those of the active stack's endpoint.

    Raises:
        DataError: The folder is missing.
        StackError: The active stack has no deployer.
    """
    from visionops.monitoring.stores import is_store
    from visionops.review.server_logs import ServerLogs

    if place is not None and is_store(place):
        return ServerLogs(place)
    store = use_case.serving.prediction_log_store
    if place is not None:
        folder = Path(place).expanduser().absolute()
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; give the server's --prediction-log, or the URI of its store")
        return ServerLogs(folder, store)
    from steps.context import active_deployer

    return ServerLogs(active_deployer().prediction_log(use_case.name), store)


def take_logs(review: Review, use_case: Config, logs: ServerLogs, follow: float | None) -> None:
    """Import the logs and print the result, once or every ``follow`` seconds.

    Raises:
        VisionOpsError: The import fails; while following, only on the first attempt.
    """
    from visionops.review.intake import Intake

    intake = Intake(review, use_case.name, logs, use_case.review)
    _show(intake.run(datetime.now(UTC)), is_quiet=False)
    try:
        while follow is not None:
            time.sleep(follow)
            try:
                _show(intake.run(datetime.now(UTC)), is_quiet=True)
            except VisionOpsError as error:  # for example a restarting database; the next attempt imports the rest
                typer.echo(f"retrying in {follow:g} s: {one_line(str(error))}", err=True)
    except KeyboardInterrupt:
        return


def _show(taken: IntakeResult, *, is_quiet: bool) -> None:
    if is_quiet and not (taken.new or taken.known or taken.feedback or taken.refused):
        return
    for line in taken.refused[:_MOST_REFUSALS]:
        typer.echo(f"refused   {one_line(line)}")
    if len(taken.refused) > _MOST_REFUSALS:
        typer.echo(f"refused   {len(taken.refused) - _MOST_REFUSALS} more")
    typer.echo(f"traffic   {taken.new} new, {taken.known} known")
    typer.echo(f"feedback  {taken.feedback}")
    if taken.skipped:
        typer.echo(f"left out  {', '.join(f'{count} {why}' for why, count in taken.skipped.items())}")
