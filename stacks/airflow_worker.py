"""ZenML orchestrator flavor ``visionops_airflow``: an Airflow of this machine runs each step in our environment.

ZenML's own flavor makes containers of steps, and allows none of the components that live on this machine. The DAGs are
written as there; their tasks are commands (`stacks.airflow_dag`), so no image is built and no cluster is needed.
"""

from __future__ import annotations

from typing import Any, cast

from zenml.integrations.airflow.flavors.airflow_orchestrator_flavor import (
    AirflowOrchestratorConfig,
    AirflowOrchestratorFlavor,
)
from zenml.integrations.airflow.orchestrators import AirflowOrchestrator

from stacks.on_worker import ON_WORKER

__all__ = ["WorkerAirflowConfig", "WorkerAirflowFlavor", "WorkerAirflowOrchestrator"]


class WorkerAirflowConfig(AirflowOrchestratorConfig):
    """As ZenML's, but for what containers need."""

    local: bool = False
    """Of ZenML's flavor, where it mounts a folder into containers."""

    @property
    def is_local(self) -> bool:
        """Whether it uses this machine: always."""
        return True

    @property
    def handles_step_retries(self) -> bool:
        """Whether the orchestrator tries a failed step again: Airflow does, a task that was killed as well."""
        return True


class WorkerAirflowOrchestrator(AirflowOrchestrator):
    """Writes DAGs of commands."""

    @property
    def config(self) -> WorkerAirflowConfig:
        """The component's configuration."""
        return cast("WorkerAirflowConfig", self._config)

    @property
    def validator(self) -> None:
        """What the stack must have: nothing more."""
        return

    def get_docker_builds(self, snapshot: Any) -> list[Any]:
        """Return the images to build: none."""
        del snapshot
        return []

    @staticmethod
    def get_image(snapshot: Any, step_name: str | None = None) -> str:
        """Return the image of a step: none."""
        del snapshot, step_name
        return ""


class WorkerAirflowFlavor(AirflowOrchestratorFlavor):
    """Registers `WorkerAirflowOrchestrator` with ZenML."""

    @property
    def name(self) -> str:
        """Of the flavor."""
        return ON_WORKER

    @property
    def config_class(self) -> type[WorkerAirflowConfig]:
        """The component's configuration."""
        return WorkerAirflowConfig

    @property
    def implementation_class(self) -> type[WorkerAirflowOrchestrator]:
        """The component."""
        return WorkerAirflowOrchestrator
