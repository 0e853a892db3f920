"""Define ZenML model-deployer flavor ``visionops_container``, which serves a model in a container on this machine.

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
    """Model that answers, and its address."""

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
        """Return the container of the endpoint."""
        return ContainerEndpoint(Path(self.config.folder))

    def take_over(self, server: Listening) -> None:
        """Copy the model and address of ``server`` into the status."""
        super().take_over(server)
        self.status.container = cast("Container", server).label

    def gone(self) -> None:
        """Clear the model and address in the status of a stopped server."""
        self.status.container = ""


class ContainerModelDeployerConfig(BaseModelDeployerConfig):
    """Folder of the endpoints, address to publish them on, and limits of a container."""

    folder: str
    host: str = "127.0.0.1"
    container: ContainerSettings = Field(default_factory=ContainerSettings)

    @property
    def is_local(self) -> bool:
        """Always."""
        return True


class ContainerModelDeployer(MachineDeployer):
    """Deployer that serves bundles in containers on this machine."""

    NAME: ClassVar[str] = "VisionOps container"
    SERVICE: ClassVar[type[EndpointService]] = ContainerEndpointService
    FLAVOR: ClassVar[type[BaseModelDeployerFlavor]]

    @property
    def config(self) -> ContainerModelDeployerConfig:
        """Return the component's settings."""
        return cast("ContainerModelDeployerConfig", self._config)

    @property
    def folder(self) -> Path:
        """Return the folder with one subfolder for each endpoint."""
        return Path(self.config.folder)

    @property
    def host(self) -> str:
        """Return the address that containers are published on."""
        return self.config.host

    def stored(self, name: str) -> ContainerEndpoint:
        """Return the endpoint ``name``, which need not exist."""
        return ContainerEndpoint(self.folder / name, self.config.container)

    @staticmethod
    def get_model_server_info(service: BaseService) -> dict[str, str | None]:
        """Return the output of `zenml model-deployer models describe`."""
        shown = MachineDeployer.get_model_server_info(service)
        return shown | {"CONTAINER": cast("ContainerEndpointService", service).status.container}


class ContainerModelDeployerFlavor(DeployerFlavor):
    """Registers `ContainerModelDeployer` with ZenML."""

    NAME = _FLAVOR
    CONFIG = ContainerModelDeployerConfig
    DEPLOYER = ContainerModelDeployer


ContainerModelDeployer.FLAVOR = ContainerModelDeployerFlavor
