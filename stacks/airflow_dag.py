"""Turn a pipeline into an Airflow DAG of pods or of commands. ZenML copies this file unchanged into the DAG's archive.

It replaces ZenML's own generator, which sets neither resources nor volumes of a pod and cannot start another DAG.
Airflow has neither ZenML nor this project installed: only Airflow 2.11 or newer and, for pods, its cncf-kubernetes
provider. With Airflow's BashOperator, a task is a command of our environment on the worker.
"""

from __future__ import annotations

import datetime
import os
import shlex
import subprocess
import zipfile
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

__all__ = [
    "CONFIG_FILENAME",
    "ENV_ZENML_AIRFLOW_RUN_ID",
    "NOTHING_TO_DO",
    "DagConfiguration",
    "TaskConfiguration",
    "make_dag",
]

ENV_ZENML_AIRFLOW_RUN_ID = "ZENML_AIRFLOW_RUN_ID"
CONFIG_FILENAME = "config.json"
NOTHING_TO_DO = 99
"""Exit code by which a pod requests that the following tasks are skipped."""
_ON_DEMAND = "on_demand"
_TRIGGER = "trigger"
_ON_WORKER = ".BashOperator"


class TaskConfiguration(BaseModel):
    """One step, with ZenML's field names."""

    id: str
    zenml_step_name: str
    upstream_steps: list[str]
    docker_image: str
    command: list[str]
    arguments: list[str]
    environment: dict[str, str] = {}
    operator_source: str = ""
    operator_args: dict[str, Any] = {}


class DagConfiguration(BaseModel):
    """One pipeline, with ZenML's field names."""

    id: str
    tasks: list[TaskConfiguration]
    local_stores_path: str | None = None
    schedule: datetime.timedelta | str = Field(union_mode="left_to_right")
    start_date: datetime.datetime
    end_date: datetime.datetime | None = None
    catchup: bool = False
    tags: list[str] = []
    dag_args: dict[str, Any] = {}
    """Arguments of Airflow's DAG, and two of ours. `on_demand`: the DAG waits to be triggered. `trigger`: a task, the
    command that a pod of its image runs at the end, and the DAG to start unless that pod exits with `NOTHING_TO_DO`."""


def make_dag(config: DagConfiguration) -> Any:
    """Return Airflow's DAG."""
    try:
        from airflow.sdk import DAG
    except ImportError:  # Airflow 2
        from airflow import DAG
    arguments = dict(config.dag_args)
    on_demand, trigger = arguments.pop(_ON_DEMAND, False), arguments.pop(_TRIGGER, None)
    with DAG(
        dag_id=config.id,
        schedule=None if on_demand else config.schedule,
        start_date=config.start_date,
        end_date=config.end_date,
        catchup=config.catchup,
        tags=config.tags,
        is_paused_upon_creation=False,
        **arguments,
    ) as dag:
        tasks = {
            task.zenml_step_name: _task(config.id, task.id, task, task.command, task.arguments) for task in config.tasks
        }
        for task in config.tasks:
            for upstream in task.upstream_steps:
                tasks[task.zenml_step_name].set_upstream(tasks[upstream])
        if trigger:
            decides = next(task for task in config.tasks if task.zenml_step_name == trigger["after"])
            asks = _task(
                config.id, "ask", decides, trigger["command"], decides.arguments, skip_on_exit_code=NOTHING_TO_DO
            )
            asks.set_upstream(list(tasks.values()))
            asks.set_downstream(_triggers(trigger["dag"]))
    return dag


def _task(
    dag_id: str, task_id: str, task: TaskConfiguration, command: list[str], arguments: list[str], **more: Any
) -> Any:
    make = _command if task.operator_source.endswith(_ON_WORKER) else _pod
    return make(dag_id, task_id, task, command, arguments, **more)


def _command(
    _dag_id: str, task_id: str, task: TaskConfiguration, command: list[str], arguments: list[str], **more: Any
) -> Any:
    """Return a task that runs one program of our environment, with the client's paths: see `stacks.run_options`."""
    try:
        from airflow.providers.standard.operators.bash import BashOperator
    except ImportError:  # Airflow 2
        from airflow.operators.bash import BashOperator
    given = dict(task.operator_args)
    python, step = given.pop("python"), given.pop("step")
    words = [python, *(step if command == task.command else command[1:]), *arguments]
    environment = {**task.environment, **given.pop("env"), ENV_ZENML_AIRFLOW_RUN_ID: "{{ run_id }}"}
    if timeout := given.pop("timeout", None):
        given["execution_timeout"] = datetime.timedelta(seconds=timeout)
    if delay := given.pop("retry_delay", None):
        given["retry_delay"] = datetime.timedelta(seconds=delay)
    if command == task.command:
        given["on_failure_callback"] = _giving_up([python, *step, "--gave_up", *arguments], environment, given["cwd"])
    # `exec` makes the program the task's own child, so signals reach it and it notices when the task dies.
    return BashOperator(
        task_id=task_id, bash_command=f"exec {shlex.join(words)}", env=environment, append_env=True, **given, **more
    )


def _giving_up(words: list[str], environment: dict[str, str], folder: str) -> Any:
    """Return a callback that closes ZenML's run after the last try, which may have been killed."""

    def give_up(context: Any) -> None:
        variables = {**os.environ, **environment, ENV_ZENML_AIRFLOW_RUN_ID: str(context["run_id"])}
        subprocess.run(words, env=variables, cwd=folder, timeout=600, check=False)  # noqa: S603 - the command is part of the DAG

    return give_up


def _pod(
    dag_id: str, task_id: str, task: TaskConfiguration, command: list[str], arguments: list[str], **more: Any
) -> Any:
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

    return KubernetesPodOperator(
        task_id=task_id,
        name=f"{dag_id}-{task_id}",
        image=task.docker_image,
        cmds=command,
        arguments=arguments,
        env_vars={**task.environment, ENV_ZENML_AIRFLOW_RUN_ID: "{{ run_id }}"},
        **task.operator_args,
        **more,
    )


def _triggers(dag_id: str) -> Any:
    try:
        from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
    except ImportError:  # Airflow 2
        from airflow.operators.trigger_dagrun import TriggerDagRunOperator
    return TriggerDagRunOperator(task_id=f"start_{dag_id}", trigger_dag_id=dag_id)


if zipfile.is_zipfile(_archive := Path(__file__).parent):  # the client imports this file as a module instead
    with zipfile.ZipFile(_archive) as _files:
        dag = make_dag(DagConfiguration.model_validate_json(_files.read(CONFIG_FILENAME)))
