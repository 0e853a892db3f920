"""ZenML model-deployer flavor ``visionops_local``: the served model is a process of this machine that outlives the run.

Only ZenML is imported at the top: every `zenml` command loads this module.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import ClassVar, cast

from pydantic import SecretStr
from zenml.enums import ServiceState
from zenml.model_deployers.base_model_deployer import BaseModelDeployerConfig, BaseModelDeployerFlavor
from zenml.models.v2.misc.service import ServiceType
from zenml.services.service import BaseService

from stacks.deployers.base import (
    BundleDeployer,
    EndpointService,
    EndpointServiceConfig,
    EndpointServiceStatus,
    check_names,
)
from stacks.deployers.endpoint import LocalEndpoint, Server
from visionops.config import ServingConfig
from visionops.endpoint import Endpoint

__all__ = [
    "LocalEndpointService",
    "LocalModelDeployer",
    "LocalModelDeployerConfig",
    "LocalModelDeployerFlavor",
    "LocalServiceConfig",
]

_FLAVOR = "visionops_local"
_START_SECONDS = 120.0


class LocalServiceConfig(EndpointServiceConfig):
    """Which endpoint a ZenML service record stands for."""

    folder: str = ""


class LocalServiceStatus(EndpointServiceStatus):
    """Which model answers, and where."""

    pid: int = 0


class LocalEndpointService(EndpointService):
    """ZenML's view of one endpoint."""

    SERVICE_TYPE = ServiceType(
        name="visionops-local", type="model-serving", flavor=_FLAVOR, description="VisionOps server on this machine"
    )
    config: LocalServiceConfig
    status: LocalServiceStatus = LocalServiceStatus()

    @property
    def local(self) -> LocalEndpoint:
        """The process behind it."""
        return LocalEndpoint(Path(self.config.folder))

    def check_status(self) -> tuple[ServiceState, str]:
        """Look at the process, and take over what it serves."""
        local = self.local
        server = local.server
        if server is None:
            return ServiceState.INACTIVE, "nothing is deployed"
        self.take_over(server)
        if local.is_ready():
            return ServiceState.ACTIVE, ""
        if local.is_running:
            return ServiceState.ERROR, f"the process lives and is not ready; see {local.log}"
        self.status.pid = 0
        if server.stopped:
            return ServiceState.INACTIVE, "stopped"
        return ServiceState.ERROR, f"the process ended by itself; start it again, and see {local.log}"

    def take_over(self, server: Server) -> None:
        """Write into the status what ``server`` serves."""
        self.status.url, self.status.pid = server.url, server.pid
        self.status.version, self.status.alias = server.served.version, server.served.alias
        self.status.digest = server.served.digest

    def get_logs(self, follow: bool = False, tail: int | None = None) -> Generator[str, bool, None]:
        """Lines of the server's log."""
        import time

        try:
            with self.local.log.open(encoding="utf-8", errors="replace") as file:
                lines = file.read().splitlines()
                yield from lines[-tail:] if tail else lines
                while follow:
                    if line := file.readline():
                        yield line.rstrip("\n")
                    else:
                        time.sleep(0.5)
        except FileNotFoundError:
            return

    def bring_up(self, timeout: float) -> None:
        """Start the process again."""
        self.local.start(timeout)

    def shut_down(self, timeout: float, *, force: bool) -> None:
        """End the process."""
        self.local.stop(timeout, force=force)

    def remove(self, timeout: float, *, force: bool) -> None:
        """End the process and remove its files."""
        self.local.delete(timeout, force=force)


class LocalModelDeployerConfig(BaseModelDeployerConfig):
    """Where endpoints keep their files, and the address they listen on."""

    folder: str
    host: str = "127.0.0.1"

    @property
    def is_local(self) -> bool:
        """Always."""
        return True


class LocalModelDeployer(BundleDeployer):
    """Serves bundles as processes of this machine."""

    NAME: ClassVar[str] = "VisionOps local"
    FLAVOR: ClassVar[type[BaseModelDeployerFlavor]]
    SERVICE = LocalEndpointService

    @property
    def config(self) -> LocalModelDeployerConfig:
        """The component's configuration."""
        return cast("LocalModelDeployerConfig", self._config)

    def deploy_bundle(
        self,
        bundle_folder: Path,
        *,
        name: str,
        version: str,
        alias: str,
        serving: ServingConfig,
        smoke_images: Sequence[bytes] = (),
    ) -> Endpoint:
        """Serve a bundle under ``name``; a running endpoint of that name is switched without a failed request.

        Args:
            smoke_images: Encoded images that the new model must answer before it gets traffic.

        Raises:
            BundleError: The bundle is corrupt.
            DeploymentError: It does not start or does not answer; what served before still serves.
        """
        service = self._deploy(bundle_folder, name, version, alias, serving, smoke_images, _START_SECONDS)
        log = str(cast("LocalEndpointService", service).local.log)
        return Endpoint(url=service.status.url, name=name, version=version, alias=alias, log=log)

    def find_endpoint(self, name: str) -> Endpoint | None:
        """The running endpoint ``name``, with a key that opens it; None: nothing runs under that name."""
        local = LocalEndpoint(Path(self.config.folder) / name)
        server = local.server
        if server is None or not local.is_running:
            return None
        served = server.served
        return Endpoint(
            url=server.url,
            name=served.name,
            version=served.version,
            alias=served.alias,
            log=str(local.log),
            key=SecretStr(local.admin_key()),
        )

    def prediction_log(self, name: str) -> Path:
        """The folder in which the endpoint ``name`` remembers what it was asked; there once it has answered."""
        return LocalEndpoint(Path(self.config.folder) / name).predictions

    def serve(
        self, bundle_folder: Path, *, name: str, version: str, alias: str, serving: ServingConfig, timeout: float
    ) -> EndpointService:
        """As `deploy_bundle`, without smoke images; returns the endpoint's record."""
        return self._deploy(bundle_folder, name, version, alias, serving, (), timeout)

    def owns(self, service: EndpointService) -> bool:
        """Whether its files are in this component's folder."""
        return Path(cast("LocalEndpointService", service).config.folder).parent == Path(self.config.folder)

    @staticmethod
    def get_model_server_info(service: BaseService) -> dict[str, str | None]:
        """What `zenml model-deployer models describe` shows."""
        endpoint = cast("LocalEndpointService", service)
        return {
            "PREDICTION_URL": endpoint.prediction_url,
            "MODEL_NAME": endpoint.config.model_name,
            "MODEL_VERSION": endpoint.status.version,
            "MODEL_ALIAS": endpoint.status.alias,
            "BUNDLE_DIGEST": endpoint.status.digest,
            "DAEMON_PID": str(endpoint.status.pid),
            "LOG_FILE": str(endpoint.local.log),
        }

    def _deploy(
        self,
        bundle_folder: Path,
        name: str,
        version: str,
        alias: str,
        serving: ServingConfig,
        smoke_images: Sequence[bytes],
        timeout: float,
    ) -> EndpointService:
        check_names(name, version)
        local = LocalEndpoint(Path(self.config.folder) / name)
        first = local.server is None
        local.deploy(
            bundle_folder,
            name=name,
            version=version,
            alias=alias,
            serving=serving,
            smoke_images=smoke_images,
            host=self.config.host,
            timeout=timeout,
        )
        try:
            return self.record(name, lambda **known: LocalServiceConfig(folder=str(local.folder), **known))
        except BaseException:
            if first:  # a server that no command lists would run on unseen
                local.delete(force=True)
            raise


class LocalModelDeployerFlavor(BaseModelDeployerFlavor):
    """Registers `LocalModelDeployer` with ZenML."""

    @property
    def name(self) -> str:
        """Of the flavor."""
        return _FLAVOR

    @property
    def config_class(self) -> type[LocalModelDeployerConfig]:
        """The component's configuration."""
        return LocalModelDeployerConfig

    @property
    def implementation_class(self) -> type[LocalModelDeployer]:
        """The component."""
        return LocalModelDeployer


LocalModelDeployer.FLAVOR = LocalModelDeployerFlavor
