"""Turn a stack file's `steps` into options for an Airflow that runs steps on this machine, in this environment."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stacks.same_code import CODE_VARIABLE, code_digest
from stacks.spec import ComponentType, StackSpec
from stacks.steps import StepSpec
from visionops.home import visionops_home

__all__ = ["ON_WORKER", "worker_options"]

ON_WORKER = "visionops_airflow"
"""Flavor of the orchestrator that `stacks.airflow_worker` registers."""
_BASH = "airflow.providers.standard.operators.bash.BashOperator"
_DAG_GENERATOR = "stacks.airflow_dag"
_ROOT = Path(__file__).resolve().parents[1]
_Options = dict[str, Any]


def worker_options(spec: StackSpec, names: Mapping[str, str], dag: Mapping[str, Any], use_case: str) -> _Options:
    """Return the arguments of a pipeline's `with_options`, like `stacks.run_options.run_options`.

    Steps get a folder, variables, a time limit and retries; cores and memory are those of the machine.

    Args:
        names: Name under which each step of the pipeline runs, mapped to the step's own name.
        dag: The orchestrator's settings for the DAG.
        use_case: Name of the use case; steps of two of its runs never work at the same time.
    """
    from zenml.enums import ExecutionMode

    # One task at a time, as on the stack `local`: two steps would compete for memory.
    arguments = dag["dag_args"] | {"max_active_tasks": 1}
    settings = {**dag, "dag_args": arguments, "custom_dag_generator": _DAG_GENERATOR}
    return {
        "settings": {"orchestrator": settings},
        "steps": {runs_as: _step_options(spec, spec.step(name), use_case) for runs_as, name in names.items()},
        "execution_mode": ExecutionMode.CONTINUE_ON_FAILURE,
    }


def _step_options(spec: StackSpec, step: StepSpec, use_case: str) -> _Options:
    from zenml.config.global_config import GlobalConfiguration

    of_all = spec.components[ComponentType.ORCHESTRATOR].configuration.get("operator_args", {})
    environment = {
        **{name: value for name, value in step.environment.items() if value},
        CODE_VARIABLE: code_digest(),
        "VISIONOPS_HOME": str(visionops_home()),
        # A PYTHONPATH of Airflow would put its libraries before ours.
        "PYTHONPATH": str(_ROOT),
        "ZENML_CONFIG_PATH": str(GlobalConfiguration().config_directory),
    }
    arguments: _Options = {
        "python": sys.executable,
        "step": ["-m", "pipelines.airflow_task", "--use_case", use_case],
        "env": environment,
        # Paths of a use case may be relative to this folder.
        "cwd": str(Path.cwd()),
        "retries": step.retries,
    }
    if step.timeout:
        arguments["timeout"] = step.timeout
    operator = {"operator": _BASH, "operator_args": of_all | arguments}
    options: _Options = {"settings": {"orchestrator": operator}}
    if step.retries:
        options["retry"] = {"max_retries": step.retries}
    return options
