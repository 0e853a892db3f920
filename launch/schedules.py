"""Create the DAGs of a use case's `schedules` for Airflow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.environment import quieten_libraries, use_own_sources
from launch.rendering import print_summary
from launch.requests import MonitorRequest, Request, TrainRequest
from launch.summary import RunSummary
from launch.terminal import exit_code
from visionops.config import Config
from visionops.errors import ConfigError, StackError

if TYPE_CHECKING:
    from stacks.run_options import DagPlan

__all__ = ["make_schedules", "planned", "schedule_pipelines"]


def make_schedules(base: Request) -> RunSummary:
    """Create a DAG for each schedule of the use case, replacing DAGs of the same names.

    Args:
        base: Request with the use case, the settings and the stack.

    Raises:
        ConfigError: The use case has no schedules.
        StackError: The stack has no Airflow.
        VisionOpsError: As `launch`.
    """
    config = base.load_config()
    if config.schedules.is_empty:
        raise ConfigError(
            f"{base.config}: no schedules; set a cron expression for schedules.training, schedules.monitoring or "
            "schedules.retraining"
        )
    quieten_libraries()
    use_own_sources()
    from launch.service import start_pipeline
    from stacks.session import open_session

    with open_session(config.name, base.stack) as session:
        if not session.dags:
            raise StackError(
                f"stack {session.stack!r} has no Airflow to run schedules; use a stack with Airflow, for example "
                "--stack airflow-local (docs/how-to/airflow.md)"
            )
        plans = planned(base, config)
        for request, plan in plans:
            start_pipeline(request, config, plan)
    names = tuple(plan.id for _, plan in plans)
    return RunSummary(config.name, session.stack, dag_folder=session.dags, dags=names)


def planned(base: Request, config: Config) -> list[tuple[Request, DagPlan]]:
    """Return the requests that a use case's schedules run, each with its DAG.

    Retraining also has a DAG if only monitoring starts it.
    """
    from launch.dags import dag_plan, retraining_plan

    given = {name: getattr(base, name) for name in Request.model_fields if name != "schedule"}
    times = config.schedules
    found: list[tuple[Request, DagPlan]] = []
    if times.training:
        training = TrainRequest(**given, schedule=times.training)
        found.append((training, dag_plan(training, config.name)))
    if times.monitoring:
        monitoring = MonitorRequest(**given, schedule=times.monitoring)
        found.append((monitoring, dag_plan(monitoring, config.name)))
    if times.monitoring or times.retraining:
        retraining = TrainRequest(**given, schedule=times.retraining)
        found.append((retraining, retraining_plan(config)))
    return found


def schedule_pipelines(
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Use case, a YAML file (default: configs/sample.yaml).")
    ] = None,
    stack: Annotated[
        str | None, typer.Option(metavar="NAME", help="Stack with Airflow (default: the active one).")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a setting of the use case; repeatable."),
    ] = None,
) -> None:
    """Create the DAGs of a use case's schedules for Airflow."""
    given = {"config": config} if config else {}
    base = Request(**given, stack=stack, settings=tuple(settings or ()))
    raise typer.Exit(exit_code(lambda: print_summary(make_schedules(base))))
