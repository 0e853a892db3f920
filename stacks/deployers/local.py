"""ZenML model-deployer flavor ``visionops_local``: the served model is a process of this machine that outlives the run.

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
    """As its base; ZenML's records name this class."""


class LocalServiceStatus(EndpointServiceStatus):
    """Which model answers, and where."""

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
        """The process behind it."""
        return LocalEndpoint(Path(self.config.folder))

    def take_over(self, server: Listening) -> None:
        """Write into the status what ``server`` serves."""
        super().take_over(server)
        self.status.pid = cast("Server", server).pid

    def gone(self) -> None:
        """Write into the status that it does not run."""
        self.status.pid = 0


class LocalModelDeployerConfig(BaseModelDeployerConfig):
    """Where endpoints keep their files, and the address they listen on."""

    folder: str
    host: str = "127.0.0.1"

    @property
    def is_local(self) -> bool:
        """Always."""
        return True


class LocalModelDeployer(MachineDeployer):
    """Serves bundles as processes of this machine."""

    NAME: ClassVar[str] = "VisionOps local"
    SERVICE: ClassVar[type[EndpointService]] = LocalEndpointService
    CONFIG: ClassVar[type[MachineServiceConfig]] = LocalServiceConfig
    FLAVOR: ClassVar[type[BaseModelDeployerFlavor]]

    @property
    def config(self) -> LocalModelDeployerConfig:
        """The component's configuration."""
        return cast("LocalModelDeployerConfig", self._config)

    @property
    def folder(self) -> Path:
        """Has a folder for each endpoint."""
        return Path(self.config.folder)

    @property
    def host(self) -> str:
        """The address that endpoints listen on."""
        return self.config.host

    def stored(self, name: str) -> LocalEndpoint:
        """The endpoint ``name``, whether it is there or not."""
        return LocalEndpoint(self.folder / name)

    @staticmethod
    def get_model_server_info(service: BaseService) -> dict[str, str | None]:
        """What `zenml model-deployer models describe` shows."""
        shown = MachineDeployer.get_model_server_info(service)
        return shown | {"DAEMON_PID": str(cast("LocalEndpointService", service).status.pid)}


class LocalModelDeployerFlavor(DeployerFlavor):
    """Registers `LocalModelDeployer` with ZenML."""

    NAME = _FLAVOR
    CONFIG = LocalModelDeployerConfig
    DEPLOYER = LocalModelDeployer


LocalModelDeployer.FLAVOR = LocalModelDeployerFlavor
