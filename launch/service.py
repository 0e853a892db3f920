"""Launch a request on its stack, one run per use case at a time, with the training that a monitoring starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from launch.elsewhere import attach, request_digest, start_elsewhere
from launch.environment import quieten_libraries, use_own_sources
from launch.preparation import PipelineCall, check_request, prepare_call
from launch.requests import Request, TrainRequest
from launch.summary import RunSummary, summarize
from visionops.config import Config
from visionops.errors import StackError

if TYPE_CHECKING:
    from zenml.models import PipelineRunResponse

    from stacks.run_options import DagPlan
    from stacks.session import Session

__all__ = ["launch", "start_call", "start_pipeline", "tuned_config"]


def launch(request: Request, on_end: Callable[[RunSummary], None] = lambda _: None) -> RunSummary:
    """Run the pipeline of a request to its end, or submit it to Airflow if the stack has it.

    If a monitoring decides to train again, that training follows, and its summary is the monitoring's ``training``.

    Args:
        on_end: Function that receives the summary of each ended run before the next one starts.

    Raises:
        VisionOpsError: The use case or its data is invalid, a server does not answer, or a step has failed; the message
            is one line with the place and the fix.
    """
    config = request.load_config()
    check_request(request, config)
    quieten_libraries()
    use_own_sources()
    from launch.dags import dag_plan, following_training
    from launch.run_metrics import run_with_metrics
    from stacks.session import open_session
    from steps.context import active_pushgateway

    with open_session(config.name, request.stack) as session:
        if isinstance(request, TrainRequest) and request.tuned:
            config = tuned_config(request, config)
        if session.dags:
            summary = _hand_over(request, config, session)
            on_end(summary)
            return summary
        if request.schedule:
            raise StackError(
                f"--schedule: stack {session.stack!r} has no Airflow; use cron or a CronJob to start this command "
                "(docs/how-to/monitoring.md)"
            )

        def run(request: Request) -> RunSummary:
            started = start_pipeline(request, config, dag_plan(request, config.name))
            return summarize(started, config.name, session.stack)

        gateway = active_pushgateway()
        summary = run_with_metrics(gateway, request.pipeline, config.name, lambda: run(request))
        on_end(summary)
        if summary.is_retraining and (training := following_training(request)):
            trained = run_with_metrics(gateway, training.pipeline, config.name, lambda: run(training))
            on_end(trained)
            summary = dataclasses.replace(summary, training=trained)
    return summary


def start_pipeline(request: Request, config: Config, plan: DagPlan) -> PipelineRunResponse:
    """Run the pipeline of a request on the active stack; with Airflow, create its DAG.

    Raises:
        VisionOpsError: As `launch`.
    """
    return start_call(prepare_call(request, config), request, config, plan)


def start_call(call: PipelineCall, request: Request, config: Config, plan: DagPlan) -> PipelineRunResponse:
    """Run a pipeline with collected inputs; see `start_pipeline`."""
    from zenml.client import Client
    from zenml.config.schedule import Schedule

    from stacks.run_progress import new_run_name
    from stacks.same_deployer import deployer_settings
    from stacks.session import errors_in_one_line, placement, require_success, runs_elsewhere, steps_run_here
    from stacks.tracking import tracker_settings
    from stacks.under_way import marks

    options = placement(call.pipeline, plan, config=config, **call.inputs)
    if request.schedule:
        # Start now, because with an earlier start Airflow would immediately run the last missed interval.
        options["schedule"] = Schedule(cron_expression=request.schedule, start_time=datetime.now(UTC))
    settings = options.pop("settings", {}) | tracker_settings(config.name)
    # Data read when a DAG is created may differ from the data when it runs.
    is_cached = False if not request.cache or plan.id else None
    extra, digest = deployer_settings(), request_digest(request, config)
    if not steps_run_here():
        options["tags"], mark = marks(config.name, digest)
        extra |= mark
    is_elsewhere = runs_elsewhere()
    if is_elsewhere:
        options["run_name"] = new_run_name(call.pipeline.name)
    configured = call.pipeline.with_options(settings=settings, enable_cache=is_cached, extra=extra, **options)

    def submit() -> PipelineRunResponse:
        found: PipelineRunResponse = configured(config=config, **call.inputs)
        return found

    with errors_in_one_line():
        if is_elsewhere:
            waits = Client().active_stack.orchestrator.flavor != "kubernetes"
            return start_elsewhere(submit, options["run_name"], digest, config.name, waits=waits)
        run = submit()
        require_success(run)
    return run


def tuned_config(request: TrainRequest, config: Config) -> Config:
    """Return the use case with the best settings of the newest search, except those that the request sets.

    Raises:
        ConfigError: A setting no longer exists.
        StackError: No search has finished yet.
    """
    from steps.progress import announce
    from steps.tuned import newest_tuning
    from visionops.config import with_training
    from visionops.tuning.report import settings_text

    found = newest_tuning(config.name)
    explicit = [override.partition("=")[0].strip() for override in request.settings]
    settings = {
        key: value
        for key, value in found.settings.items()
        if not any(f"training.{key}.".startswith(f"{name}.") for name in explicit)
    }
    announce(f"tuned (val {found.metric} {found.value:.4f}): {settings_text(settings)}")
    return with_training(config, settings, "--tuned")


def _hand_over(request: Request, config: Config, session: Session) -> RunSummary:
    """Create DAGs for Airflow; a scheduled monitoring also gets one for the training that it may start."""
    from launch.dags import dag_plan, following_training, retraining_plan

    plan = dag_plan(request, config.name)
    if not request.schedule and (run := attach(request_digest(request, config), config.name)):
        return summarize(run, config.name, session.stack)
    start_pipeline(request, config, plan)
    dags = [plan.id or f"{request.pipeline}-…, once, immediately"]
    if request.schedule and (training := following_training(request)):
        retraining = retraining_plan(config)
        training = training.model_copy(update={"schedule": config.schedules.retraining})
        start_pipeline(training, config, retraining)
        dags.append(retraining.id)
    return RunSummary(config.name, session.stack, dag_folder=session.dags, dags=tuple(dags))
