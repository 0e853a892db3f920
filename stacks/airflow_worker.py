"""Define ZenML orchestrator flavor ``visionops_airflow``: Airflow on this machine runs each step in our environment.

ZenML's own flavor runs steps in containers and allows no components on this machine. This flavor writes DAGs in the
same way, but their tasks are commands (`stacks.airflow_dag`), so no image is built and no cluster is needed.
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
    """ZenML's settings without those for containers."""

    local: bool = False
    """Setting of ZenML's flavor, which then mounts a folder into containers."""

    @property
    def is_local(self) -> bool:
        """Return True: it always uses this machine."""
        return True

    @property
    def handles_step_retries(self) -> bool:
        """Return True: Airflow retries failed steps, including killed tasks."""
        return True


class WorkerAirflowOrchestrator(AirflowOrchestrator):
    """Writes DAGs of commands."""

    @property
    def config(self) -> WorkerAirflowConfig:
        """Return the component's settings."""
        return cast("WorkerAirflowConfig", self._config)

    @property
    def validator(self) -> None:
        """Return None: the stack needs no other components."""
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
        """Return the name of the flavor."""
        return ON_WORKER

    @property
    def config_class(self) -> type[WorkerAirflowConfig]:
        """Return the component's settings."""
        return WorkerAirflowConfig

    @property
    def implementation_class(self) -> type[WorkerAirflowOrchestrator]:
        """Return the class of the component."""
        return WorkerAirflowOrchestrator
