"""ZenML model-deployer flavor ``visionops_container``: the served model is a container of this machine.

Only ZenML is imported at the top: every `zenml` command loads this module.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, cast

from pydantic import Field
from zenml.model_deployers.base_model_deployer import BaseModelDeployerConfig, BaseModelDeployerFlavor
from zenml.models.v2.misc.service import ServiceType
from zenml.services.service import BaseService

from stacks.deployers.base import DeployerFlavor, EndpointService, EndpointServiceStatus
from stacks.deployers.containers import Container, ContainerEndpoint, ContainerSettings
from stacks.deployers.host_deployer import MachineDeployer, MachineService
from stacks.deployers.host_endpoint import Listening

__all__ = [
    "ContainerEndpointService",
    "ContainerModelDeployer",
    "ContainerModelDeployerConfig",
    "ContainerModelDeployerFlavor",
    "ContainerServiceStatus",
]

_FLAVOR = "visionops_container"


class ContainerServiceStatus(EndpointServiceStatus):
    """Which model answers, and where."""

    container: str = ""


class ContainerEndpointService(MachineService):
    """ZenML's view of one endpoint."""

    SERVICE_TYPE = ServiceType(
        name="visionops-container",
        type="model-serving",
        flavor=_FLAVOR,
        description="VisionOps server in a container of this machine",
    )
    status: ContainerServiceStatus = ContainerServiceStatus()

    @property
    def stored(self) -> ContainerEndpoint:
        """The container behind it."""
        return ContainerEndpoint(Path(self.config.folder))

    def take_over(self, server: Listening) -> None:
        """Write into the status what ``server`` serves."""
        super().take_over(server)
        self.status.container = cast("Container", server).label

    def gone(self) -> None:
        """Write into the status that it does not run."""
        self.status.container = ""


class ContainerModelDeployerConfig(BaseModelDeployerConfig):
    """Where endpoints keep their files, the address they are published on, and what a container may use."""

    folder: str
    host: str = "127.0.0.1"
    container: ContainerSettings = Field(default_factory=ContainerSettings)

    @property
    def is_local(self) -> bool:
        """Always."""
        return True


class ContainerModelDeployer(MachineDeployer):
    """Serves bundles as containers of this machine."""

    NAME: ClassVar[str] = "VisionOps container"
    SERVICE: ClassVar[type[EndpointService]] = ContainerEndpointService
    FLAVOR: ClassVar[type[BaseModelDeployerFlavor]]

    @property
    def config(self) -> ContainerModelDeployerConfig:
        """The component's configuration."""
        return cast("ContainerModelDeployerConfig", self._config)

    @property
    def folder(self) -> Path:
        """Has a folder for each endpoint."""
        return Path(self.config.folder)

    @property
    def host(self) -> str:
        """The address that containers are published on."""
        return self.config.host

    def stored(self, name: str) -> ContainerEndpoint:
        """The endpoint ``name``, whether it is there or not."""
        return ContainerEndpoint(self.folder / name, self.config.container)

    @staticmethod
    def get_model_server_info(service: BaseService) -> dict[str, str | None]:
        """What `zenml model-deployer models describe` shows."""
        shown = MachineDeployer.get_model_server_info(service)
        return shown | {"CONTAINER": cast("ContainerEndpointService", service).status.container}


class ContainerModelDeployerFlavor(DeployerFlavor):
    """Registers `ContainerModelDeployer` with ZenML."""

    NAME = _FLAVOR
    CONFIG = ContainerModelDeployerConfig
    DEPLOYER = ContainerModelDeployer


ContainerModelDeployer.FLAVOR = ContainerModelDeployerFlavor
