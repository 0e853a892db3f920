"""Open the use cases, models, runs and reviews that control service and console work on."""

from __future__ import annotations

import dataclasses
import functools
import socket
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from deploy.control.cooldown import check_trainings
from deploy.control.options import WorkOptions
from deploy.control.registry import Models
from deploy.control.runs.commands import command_of
from deploy.control.runs.launcher import Launcher
from deploy.control.runs.processes import ProcessLauncher
from deploy.control.runs.runner import Runner
from deploy.control.use_cases import UseCases
from visionops.errors import ConfigError
from visionops.home import visionops_home
from visionops.review.service import Review
from visionops.review.states import Actor
from visionops.review_store.database import Database
from visionops.review_store.opening import review_over
from visionops.review_store.runs import SqlRunStore
from visionops.runs.ports import RunStore
from visionops.runs.states import Run, RunRequest, check_cooldown, run_id

__all__ = ["ROOT", "Work", "open_work", "order_run", "runner_of"]

ROOT = Path(__file__).resolve().parents[2]
"""Working folder of started programs, where ``python -m`` finds the code."""


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """Use cases, models, runs, reviews and the launcher of runs."""

    use_cases: UseCases
    runs: RunStore
    launcher: Launcher
    models: Models
    review: Review

    def now(self) -> datetime:
        """Return the current time."""
        return datetime.now(UTC)

    def close(self) -> None:
        """Close the connections to the database, and save the caches of the review."""
        self.review.close()
        self.runs.close()


def open_work(options: WorkOptions, database: Database) -> Work:
    """Open the objects that the options name, over a database.

    Raises:
        VisionOpsError: One of them cannot be opened.
    """
    return Work(
        use_cases=UseCases(options.configs),
        runs=SqlRunStore(database),
        launcher=_launcher(options),
        models=Models(ROOT, options.stack),
        review=review_over(database),
    )


def runner_of(work: Work, options: WorkOptions, on_end: Callable[[Run], None]) -> Runner:
    """Return the runner that starts and watches the runs of the queue."""

    def command(run: Run) -> list[str]:
        return command_of(run, work.use_cases.find(run.request.use_case).path, options.stack)

    def ended(run: Run) -> None:
        on_end(run)
        work.models.forget()

    owner = f"{socket.gethostname()}:{uuid.uuid4().hex[:8]}"
    return Runner(work.runs, work.launcher, owner, command, work.now, grace=options.grace_time, on_end=ended)


def order_run(work: Work, run_request: RunRequest, actor: Actor, key: str) -> Run:
    """Put a run into the queue; a second request with the same key returns the same run.

    Raises:
        NotFound: No file defines the use case.
        CoolingDown: The last training is too recent.
        Conflict: A training of the use case is waiting already, or the key was used for another run.
        Unavailable: The database or the registry cannot be reached.
    """
    found = work.use_cases.find(run_request.use_case)
    now = work.now()
    check_trainings(run_request, run_id(actor.name, key), work.runs, work.models, work.use_cases, now)
    check = functools.partial(check_cooldown, run_request, cooldown_hours=found.cooldown_hours, now=now)
    return work.runs.add(run_request, actor.name, key, now, check)


def _launcher(options: WorkOptions) -> Launcher:
    if options.launcher == "process":
        return ProcessLauncher(options.runs or visionops_home() / "control" / "runs", ROOT)
    if options.job_template is None:
        raise ConfigError("--job-template: is missing; --launcher kubernetes needs it to create the Job of a run")
    from deploy.control.runs.jobs import JobLauncher

    return JobLauncher.from_file(options.job_template, options.namespace)
