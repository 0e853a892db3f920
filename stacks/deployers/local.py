"""Define ZenML model-deployer flavor ``visionops_local``, which serves a model in a process that outlives the run.

Only ZenML is imported at the top: every `zenml` command loads this module.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, cast

from zenml.model_deployers.base_model_deployer import BaseModelDeployerConfig, BaseModelDeployerFlavor
from zenml.models.v2.misc.service import ServiceType
from zenml.services.service import BaseService

from stacks.deployers.base import DeployerFlavor, EndpointService, EndpointServiceStatus
from stacks.deployers.endpoint import LocalEndpoint, Server
from stacks.deployers.host_deployer import MachineDeployer, MachineService, MachineServiceConfig
from stacks.deployers.host_endpoint import Listening

__all__ = [
    "LocalEndpointService",
    "LocalModelDeployer",
    "LocalModelDeployerConfig",
    "LocalModelDeployerFlavor",
    "LocalServiceConfig",
]

_FLAVOR = "visionops_local"


class LocalServiceConfig(MachineServiceConfig):
    """Endpoint of a ZenML service record; stored records name this class."""


class LocalServiceStatus(EndpointServiceStatus):
    """Model that answers, and its address."""

    pid: int = 0


class LocalEndpointService(MachineService):
    """ZenML's view of one endpoint."""

    SERVICE_TYPE = ServiceType(
        name="visionops-local", type="model-serving", flavor=_FLAVOR, description="VisionOps server on this machine"
    )
    config: LocalServiceConfig
    status: LocalServiceStatus = LocalServiceStatus()

    @property
    def stored(self) -> LocalEndpoint:
        """Return the process of the endpoint."""
        return LocalEndpoint(Path(self.config.folder))

    def take_over(self, server: Listening) -> None:
        """Copy the model and address of ``server`` into the status."""
        super().take_over(server)
        self.status.pid = cast("Server", server).pid

    def gone(self) -> None:
        """Clear the model and address in the status of a stopped server."""
        self.status.pid = 0


class LocalModelDeployerConfig(BaseModelDeployerConfig):
    """Folder of the endpoints, and address that they listen on."""

    folder: str
    host: str = "127.0.0.1"

    @property
    def is_local(self) -> bool:
        """Always."""
        return True


class LocalModelDeployer(MachineDeployer):
    """Deployer that serves bundles in processes on this machine."""

    NAME: ClassVar[str] = "VisionOps local"
    SERVICE: ClassVar[type[EndpointService]] = LocalEndpointService
    CONFIG: ClassVar[type[MachineServiceConfig]] = LocalServiceConfig
    FLAVOR: ClassVar[type[BaseModelDeployerFlavor]]

    @property
    def config(self) -> LocalModelDeployerConfig:
        """Return the component's settings."""
        return cast("LocalModelDeployerConfig", self._config)

    @property
    def folder(self) -> Path:
        """Return the folder with one subfolder for each endpoint."""
        return Path(self.config.folder)

    @property
    def host(self) -> str:
        """Return the address that endpoints listen on."""
        return self.config.host

    def stored(self, name: str) -> LocalEndpoint:
        """Return the endpoint ``name``, which need not exist."""
        return LocalEndpoint(self.folder / name)

    @staticmethod
    def get_model_server_info(service: BaseService) -> dict[str, str | None]:
        """Return the output of `zenml model-deployer models describe`."""
        shown = MachineDeployer.get_model_server_info(service)
        return shown | {"DAEMON_PID": str(cast("LocalEndpointService", service).status.pid)}


class LocalModelDeployerFlavor(DeployerFlavor):
    """Registers `LocalModelDeployer` with ZenML."""

    NAME = _FLAVOR
    CONFIG = LocalModelDeployerConfig
    DEPLOYER = LocalModelDeployer


LocalModelDeployer.FLAVOR = LocalModelDeployerFlavor
