"""ZenML model-deployer flavor ``visionops_local``: the served model is a process of this machine that outlives the run.

ZenML's record is one per endpoint and stays when the model changes: its config says which endpoint, its status which
model answers now. Only ZenML is imported at the top: every `zenml` command loads this module.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast
from uuid import UUID

from pydantic import SecretStr
from zenml.client import Client
from zenml.enums import ServiceState
from zenml.model_deployers.base_model_deployer import (
    DEFAULT_DEPLOYMENT_START_STOP_TIMEOUT,
    BaseModelDeployer,
    BaseModelDeployerConfig,
    BaseModelDeployerFlavor,
)
from zenml.models.v2.misc.service import ServiceType
from zenml.services.service import BaseDeploymentService, BaseService, ServiceConfig
from zenml.services.service_status import ServiceStatus

from stacks.deployers.endpoint import LocalEndpoint, Server
from visionops.config import ServingConfig
from visionops.endpoint import Endpoint
from visionops.errors import DeploymentError

__all__ = [
    "LocalEndpointService",
    "LocalModelDeployer",
    "LocalModelDeployerConfig",
    "LocalModelDeployerFlavor",
    "LocalServiceConfig",
]

_FLAVOR = "visionops_local"
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class LocalServiceConfig(ServiceConfig):
    """Which endpoint a ZenML service record stands for; the rest only matters to `deploy_model`."""

    folder: str = ""
    bundle: str = ""
    alias: str = ""
    serving: dict[str, Any] = {}  # noqa: RUF012 - a pydantic field, copied for each instance


class LocalServiceStatus(ServiceStatus):
    """Which model answers, and where."""

    url: str = ""
    version: str = ""
    alias: str = ""
    digest: str = ""
    pid: int = 0


class LocalEndpointService(BaseDeploymentService):
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

    @property
    def prediction_url(self) -> str | None:
        """Where images are posted to."""
        return f"{self.status.url}/predict" if self.status.url else None

    @property
    def healthcheck_url(self) -> str | None:
        """Where readiness is asked for."""
        return f"{self.status.url}/ready" if self.status.url else None

    def get_healthcheck_url(self) -> str | None:
        """As `healthcheck_url`: ZenML's own looks for an endpoint object, which we do without."""
        return self.healthcheck_url

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

    def provision(self) -> None:
        """Start the process again."""
        self.local.start()

    def deprovision(self, force: bool = False) -> None:
        """End the process."""
        self.local.stop(force=force)


class LocalModelDeployerConfig(BaseModelDeployerConfig):
    """Where endpoints keep their files, and the address they listen on."""

    folder: str
    host: str = "127.0.0.1"

    @property
    def is_local(self) -> bool:
        """Always."""
        return True


class LocalModelDeployer(BaseModelDeployer):
    """Serves bundles as processes of this machine."""

    NAME: ClassVar[str] = "VisionOps local"
    FLAVOR: ClassVar[type[BaseModelDeployerFlavor]]

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
        server, local, _ = self._deploy(bundle_folder, name, version, alias, serving, smoke_images)
        return Endpoint(url=server.url, name=name, version=version, alias=alias, log=str(local.log))

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

    def deploy_model(
        self,
        config: ServiceConfig,
        service_type: ServiceType = LocalEndpointService.SERVICE_TYPE,
        replace: bool = True,
        continuous_deployment_mode: bool = True,
        timeout: int = DEFAULT_DEPLOYMENT_START_STOP_TIMEOUT,
    ) -> BaseService:
        """ZenML's way in. Its own deletes the running server before it starts the next: ours switches."""
        del service_type, replace, continuous_deployment_mode
        wanted = LocalServiceConfig.model_validate(config.model_dump(exclude={"type"}))
        return self._deploy(
            Path(wanted.bundle),
            wanted.model_name,
            wanted.model_version,
            wanted.alias,
            ServingConfig.model_validate(wanted.serving),
            (),
            timeout=timeout,
        )[2]

    def perform_deploy_model(
        self,
        id: UUID,  # noqa: A002 - ZenML's name
        config: ServiceConfig,
        timeout: int = DEFAULT_DEPLOYMENT_START_STOP_TIMEOUT,
    ) -> BaseService:
        """Not a way in: `deploy_model` does it all."""
        raise NotImplementedError("use deploy_model or deploy_bundle")

    def find_model_server(
        self,
        config: dict[str, Any] | None = None,
        running: bool | None = None,
        service_uuid: UUID | None = None,
        pipeline_name: str | None = None,
        pipeline_step_name: str | None = None,
        service_name: str | None = None,
        model_name: str | None = None,
        model_version: str | None = None,
        service_type: ServiceType | None = None,  # noqa: ARG002 - there is one
        type: str | None = None,  # noqa: A002, ARG002 - ZenML's name
        flavor: str | None = None,
        pipeline_run_id: str | None = None,
    ) -> list[BaseService]:
        """Our endpoints that match.

        ZenML's own looks ``model_name`` up among its models, not among MLflow's, and lists everything when it is not
        there; and it would return records of other flavors.
        """
        found = super().find_model_server(
            config=config,
            running=running,
            service_uuid=service_uuid,
            pipeline_name=pipeline_name,
            pipeline_step_name=pipeline_step_name,
            service_name=service_name,
            service_type=LocalEndpointService.SERVICE_TYPE,
            pipeline_run_id=pipeline_run_id,
        )
        root = Path(self.config.folder)
        return [
            service
            for service in found
            if isinstance(service, LocalEndpointService)
            and Path(service.config.folder).parent == root
            and model_name in {None, service.config.model_name}
            and model_version in {None, service.status.version}
            and flavor in {None, _FLAVOR}
        ]

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

    def perform_stop_model(
        self, service: BaseService, timeout: int = DEFAULT_DEPLOYMENT_START_STOP_TIMEOUT, force: bool = False
    ) -> BaseService:
        """End the process; `perform_start_model` brings it back."""
        endpoint = cast("LocalEndpointService", service)
        endpoint.local.stop(timeout, force=force)
        endpoint.admin_state = ServiceState.INACTIVE
        endpoint.update_status()
        return endpoint

    def perform_start_model(
        self, service: BaseService, timeout: int = DEFAULT_DEPLOYMENT_START_STOP_TIMEOUT
    ) -> BaseService:
        """Start the process again, with what it served."""
        endpoint = cast("LocalEndpointService", service)
        endpoint.local.start(timeout or DEFAULT_DEPLOYMENT_START_STOP_TIMEOUT)
        endpoint.admin_state = ServiceState.ACTIVE
        endpoint.update_status()
        return endpoint

    def perform_delete_model(
        self, service: BaseService, timeout: int = DEFAULT_DEPLOYMENT_START_STOP_TIMEOUT, force: bool = False
    ) -> None:
        """End the process and remove its files."""
        cast("LocalEndpointService", service).local.delete(timeout, force=force)

    def _deploy(
        self,
        bundle_folder: Path,
        name: str,
        version: str,
        alias: str,
        serving: ServingConfig,
        smoke_images: Sequence[bytes],
        timeout: float = 120.0,
    ) -> tuple[Server, LocalEndpoint, LocalEndpointService]:
        for what, value in (("name", name), ("version", version)):
            if not _SAFE.fullmatch(value):
                raise DeploymentError(f"model {what} {value!r}: use letters, digits, '.', '_' and '-' only")
        local = LocalEndpoint(Path(self.config.folder) / name)
        first = local.server is None
        server = local.deploy(
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
            service = self._record(local, server)
        except BaseException:
            if first:  # a server that no command lists would run on unseen
                local.delete(force=True)
            raise
        return server, local, service

    def _record(self, local: LocalEndpoint, server: Server) -> LocalEndpointService:
        """Create or refresh ZenML's record of the endpoint."""
        client = Client()
        name = server.served.name
        services = cast("list[LocalEndpointService]", self.find_model_server(model_name=name))
        if services:
            service = services[0]
        else:
            config = LocalServiceConfig(name=name, model_name=name, folder=str(local.folder), **_whence())
            response = client.create_service(config=config, service_type=LocalEndpointService.SERVICE_TYPE)
            service = LocalEndpointService(uuid=response.id, config=config)
        service.admin_state = ServiceState.ACTIVE
        service.update_status()
        client.update_service(
            id=service.uuid,
            service_source=service.model_dump()["type"],
            admin_state=service.admin_state,
            status=service.status.model_dump(),
            prediction_url=service.get_prediction_url(),
            health_check_url=service.get_healthcheck_url(),
        )
        return service


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


def _whence() -> dict[str, str]:
    """Pipeline and step that are running, if any."""
    from zenml import get_step_context

    try:
        context = get_step_context()
    except RuntimeError:
        return {}
    return {"pipeline_name": context.pipeline.name, "pipeline_step_name": context.step_run.name}
