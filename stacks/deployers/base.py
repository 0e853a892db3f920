"""Connect our model deployers with ZenML, which keeps one record for each endpoint.

The record stays when the model changes: its config names the endpoint, its status the model that answers now. Only
ZenML is imported at the top: every `zenml` command loads the modules of flavors.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, cast
from uuid import UUID

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

from visionops.errors import DeploymentError
from visionops.inference.settings import ServingConfig

__all__ = [
    "BundleDeployer",
    "DeployerFlavor",
    "EndpointService",
    "EndpointServiceConfig",
    "EndpointServiceStatus",
    "check_names",
]

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class EndpointServiceConfig(ServiceConfig):
    """Endpoint of a ZenML service record; only `deploy_model` uses these fields."""

    bundle: str = ""
    alias: str = ""
    serving: dict[str, Any] = {}  # noqa: RUF012 - a pydantic field, copied for each instance


class EndpointServiceStatus(ServiceStatus):
    """Model that answers, and its address."""

    url: str = ""
    version: str = ""
    alias: str = ""
    digest: str = ""


class EndpointService(BaseDeploymentService):
    """ZenML's view of one endpoint."""

    config: EndpointServiceConfig
    status: EndpointServiceStatus = EndpointServiceStatus()

    @property
    def prediction_url(self) -> str | None:
        """URL for predictions."""
        return f"{self.status.url}/predict" if self.status.url else None

    @property
    def healthcheck_url(self) -> str | None:
        """URL of the readiness probe."""
        return f"{self.status.url}/ready" if self.status.url else None

    def get_healthcheck_url(self) -> str | None:
        """Return `healthcheck_url`, because ZenML's own method needs an endpoint object, which we do not have."""
        return self.healthcheck_url

    @abstractmethod
    def bring_up(self, timeout: float) -> None:
        """Start the stopped server again with its last model."""

    @abstractmethod
    def shut_down(self, timeout: float, *, force: bool) -> None:
        """Stop the server; `bring_up` can start it again."""

    @abstractmethod
    def remove(self, timeout: float, *, force: bool) -> None:
        """Stop the server and remove its files or objects."""

    def provision(self) -> None:
        """Start the server, as `bring_up` does."""
        self.bring_up(DEFAULT_DEPLOYMENT_START_STOP_TIMEOUT)

    def deprovision(self, force: bool = False) -> None:
        """Stop the server, as `shut_down` does."""
        self.shut_down(DEFAULT_DEPLOYMENT_START_STOP_TIMEOUT, force=force)


class BundleDeployer(BaseModelDeployer):
    """Deployer that serves each bundle under its name."""

    SERVICE: ClassVar[type[EndpointService]]
    """Class of the records."""

    @abstractmethod
    def serve(
        self,
        bundle_folder: Path,
        *,
        name: str,
        version: str,
        alias: str,
        serving: ServingConfig,
        timeout: float,
    ) -> EndpointService:
        """Serve a bundle like `deploy_bundle`, without smoke images, and return the endpoint's record."""

    @abstractmethod
    def owns(self, service: EndpointService) -> bool:
        """Return whether the endpoint belongs to this component."""

    def update_record(self, service: EndpointService) -> None:
        """Update the record of an endpoint of ours with this component's settings."""

    def deploy_model(
        self,
        config: ServiceConfig,
        service_type: ServiceType | None = None,
        replace: bool = True,
        continuous_deployment_mode: bool = True,
        timeout: int = DEFAULT_DEPLOYMENT_START_STOP_TIMEOUT,
    ) -> BaseService:
        """Deploy a model for ZenML. Unlike ZenML's own method, this switches the running server without deleting it."""
        del service_type, replace, continuous_deployment_mode
        wanted = EndpointServiceConfig.model_validate(
            config.model_dump(include=set(EndpointServiceConfig.model_fields) - {"type"})
        )
        return self.serve(
            Path(wanted.bundle),
            name=wanted.model_name,
            version=wanted.model_version,
            alias=wanted.alias,
            serving=ServingConfig.model_validate(wanted.serving),
            timeout=timeout,
        )

    def perform_deploy_model(
        self,
        id: UUID,  # noqa: A002 - ZenML's name
        config: ServiceConfig,
        timeout: int = DEFAULT_DEPLOYMENT_START_STOP_TIMEOUT,
    ) -> BaseService:
        """Raise NotImplementedError, because `deploy_model` does all the work."""
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
        """Return our endpoints that match.

        ZenML's own method looks ``model_name`` up among ZenML's models, not MLflow's, lists everything for an unknown
        name, and returns records of other flavors.
        """
        own = self.SERVICE.SERVICE_TYPE
        found = super().find_model_server(
            config=config,
            running=running,
            service_uuid=service_uuid,
            pipeline_name=pipeline_name,
            pipeline_step_name=pipeline_step_name,
            service_name=service_name,
            service_type=own,
            pipeline_run_id=pipeline_run_id,
        )
        ours = [
            service
            for service in found
            if isinstance(service, self.SERVICE)
            and self.owns(service)
            and model_name in {None, service.config.model_name}
            and model_version in {None, service.status.version}
            and flavor in {None, own.flavor}
        ]
        for service in ours:
            self.update_record(service)
        return list[BaseService](ours)

    def perform_stop_model(
        self, service: BaseService, timeout: int = DEFAULT_DEPLOYMENT_START_STOP_TIMEOUT, force: bool = False
    ) -> BaseService:
        """Stop the server; `perform_start_model` starts it again."""
        endpoint = cast("EndpointService", service)
        endpoint.shut_down(timeout, force=force)
        endpoint.admin_state = ServiceState.INACTIVE
        endpoint.update_status()
        return endpoint

    def perform_start_model(
        self, service: BaseService, timeout: int = DEFAULT_DEPLOYMENT_START_STOP_TIMEOUT
    ) -> BaseService:
        """Start the server again, with what it served."""
        endpoint = cast("EndpointService", service)
        endpoint.bring_up(timeout or DEFAULT_DEPLOYMENT_START_STOP_TIMEOUT)
        endpoint.admin_state = ServiceState.ACTIVE
        endpoint.update_status()
        return endpoint

    def perform_delete_model(
        self, service: BaseService, timeout: int = DEFAULT_DEPLOYMENT_START_STOP_TIMEOUT, force: bool = False
    ) -> None:
        """Stop the server and remove its files or objects."""
        cast("EndpointService", service).remove(timeout, force=force)

    def record(self, name: str, new: Callable[..., EndpointServiceConfig]) -> EndpointService:
        """Create or refresh ZenML's record of the endpoint ``name``.

        Args:
            new: Function that creates its config.
        """
        client = Client()
        services = cast("list[EndpointService]", self.find_model_server(model_name=name))
        if services:
            service = services[0]
        else:
            config = new(name=name, model_name=name, **_whence())
            response = client.create_service(config=config, service_type=self.SERVICE.SERVICE_TYPE)
            service = self.SERVICE(uuid=response.id, config=config)
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


class DeployerFlavor(BaseModelDeployerFlavor):
    """Base of the flavors that register a deployer with ZenML."""

    NAME: ClassVar[str]
    CONFIG: ClassVar[type[BaseModelDeployerConfig]]
    DEPLOYER: ClassVar[type[BundleDeployer]]

    @property
    def name(self) -> str:
        """Return the name of the flavor."""
        return self.NAME

    @property
    def config_class(self) -> type[BaseModelDeployerConfig]:
        """Return the class of the component's settings."""
        return self.CONFIG

    @property
    def implementation_class(self) -> type[BundleDeployer]:
        """Return the class of the component."""
        return self.DEPLOYER


def check_names(name: str, version: str) -> None:
    """Check that a model's name and version can be part of file and object names.

    Raises:
        DeploymentError: One of them has other characters.
    """
    for what, value in (("name", name), ("version", version)):
        if not _SAFE.fullmatch(value):
            raise DeploymentError(f"model {what} {value!r}: use letters, digits, '.', '_' and '-' only")


def _whence() -> dict[str, str]:
    """Return the names of the running pipeline and step, or nothing outside of a run."""
    from zenml import get_step_context

    try:
        context = get_step_context()
    except RuntimeError:
        return {}
    return {"pipeline_name": context.pipeline.name, "pipeline_step_name": context.step_run.name}
