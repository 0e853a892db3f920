"""Define ZenML model-deployer flavor ``visionops_kubernetes``, which serves a model as a Deployment in a cluster.

Only ZenML and light modules are imported at the top: every `zenml` command loads this module.
"""

from __future__ import annotations

import shlex
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast
from urllib.parse import urlsplit

from pydantic import SecretStr
from zenml.enums import ServiceState
from zenml.model_deployers.base_model_deployer import BaseModelDeployerConfig, BaseModelDeployerFlavor
from zenml.models.v2.misc.service import ServiceType
from zenml.services.service import BaseService

from stacks.deployers.api import Namespace
from stacks.deployers.base import BundleDeployer, DeployerFlavor, EndpointService, EndpointServiceConfig, check_names
from stacks.deployers.manifests.identity import PORT, object_name
from stacks.deployers.manifests.keys import CLIENT_KEY
from stacks.deployers.manifests.settings import KubernetesDeployerConfig
from stacks.deployers.rollout import ClusterEndpoint
from visionops.endpoint import Candidate, Endpoint
from visionops.errors import DeploymentError
from visionops.home import visionops_home
from visionops.inference.release_report import ReleaseReports
from visionops.inference.settings import ServingConfig

__all__ = [
    "ClusterModelDeployer",
    "ClusterService",
    "ClusterServiceConfig",
    "KubernetesModelDeployer",
    "KubernetesModelDeployerConfig",
    "KubernetesModelDeployerFlavor",
    "KubernetesService",
]

_FLAVOR = "visionops_kubernetes"


class ClusterServiceConfig(EndpointServiceConfig):
    """Endpoint of a ZenML service record."""

    cluster: dict[str, Any] = {}  # noqa: RUF012 - a pydantic field, copied for each instance
    """The deployer's configuration; it holds no secrets."""


class ClusterService(EndpointService):
    """ZenML's view of one endpoint of a cluster."""

    ENDPOINT: ClassVar[type[ClusterEndpoint]] = ClusterEndpoint
    """Class that manages the pods."""
    config: ClusterServiceConfig

    @property
    def endpoint_there(self) -> ClusterEndpoint:
        """Return the pods of the record."""
        return self.ENDPOINT(self.config.model_name, KubernetesDeployerConfig.model_validate(self.config.cluster))

    def check_status(self) -> tuple[ServiceState, str]:
        """Check the cluster and update the status with the served model."""
        there = self.endpoint_there
        try:
            found = there.find()
        except DeploymentError as error:
            return ServiceState.ERROR, str(error)
        if found is None:
            return ServiceState.INACTIVE, "nothing is deployed"
        self.status.url, self.status.digest = there.url, found.digest
        self.status.version, self.status.alias = found.version, found.alias
        if found.is_ready:
            return ServiceState.ACTIVE, ""
        if found.is_stopped:
            return ServiceState.INACTIVE, "stopped"
        if found.trouble:
            return ServiceState.ERROR, found.trouble
        return ServiceState.PENDING_STARTUP, "its pods are not ready yet"

    def get_logs(self, follow: bool = False, tail: int | None = None) -> Generator[str, bool, None]:  # noqa: ARG002
        """Yield the last lines of one pod's log; use `kubectl logs --follow` to follow it."""
        yield from self.endpoint_there.log(tail) if tail else self.endpoint_there.log()

    def bring_up(self, timeout: float) -> None:
        """Start as many pods as before the stop."""
        self.endpoint_there.start(timeout)

    def shut_down(self, timeout: float, *, force: bool) -> None:
        """Stop the pods."""
        self.endpoint_there.stop(None if force else timeout)

    def remove(self, timeout: float, *, force: bool) -> None:
        """Remove the objects."""
        self.endpoint_there.delete(None if force else timeout)


class KubernetesService(ClusterService):
    """Record of a Deployment."""

    SERVICE_TYPE = ServiceType(
        name="visionops-kubernetes",
        type="model-serving",
        flavor=_FLAVOR,
        description="VisionOps server as a Deployment",
    )


class KubernetesModelDeployerConfig(BaseModelDeployerConfig, KubernetesDeployerConfig):
    """The component's configuration."""

    @property
    def settings(self) -> KubernetesDeployerConfig:
        """Settings of the endpoints."""
        names = set(KubernetesDeployerConfig.model_fields)
        return KubernetesDeployerConfig.model_validate(self.model_dump(include=names))


class ClusterModelDeployer(BundleDeployer):
    """Base of the deployers that serve bundles as pods."""

    FLAVOR: ClassVar[type[BaseModelDeployerFlavor]]
    SERVICE: ClassVar[type[ClusterService]]

    @property
    def config(self) -> KubernetesModelDeployerConfig:
        """Return the component's settings."""
        return cast("KubernetesModelDeployerConfig", self._config)

    def deploy_bundle(
        self,
        bundle_folder: Path,
        *,
        name: str,
        version: str,
        alias: str,
        serving: ServingConfig,
        smoke_images: Sequence[bytes] = (),
        candidate: Candidate | None = None,
    ) -> Endpoint:
        """Serve a bundle under ``name``; a running endpoint of that name is replaced without a failed request.

        Args:
            smoke_images: Encoded images that each new pod must answer before it gets traffic.
            candidate: Another model that each new pod tries as canary or shadow.

        Raises:
            BundleError: The bundle is corrupt.
            DataError: The bundle cannot be uploaded to its store.
            DeploymentError: The rollout fails, or the new model does not answer; the previous one still serves.
        """
        service, remarks = self._deploy(bundle_folder, name, version, alias, serving, smoke_images, None, candidate)
        url, record = service.status.url, str(service.uuid)
        known = {"record": record, **self._way_in(name, url)}
        return Endpoint(url=url, name=name, version=version, alias=alias, remarks=remarks, **known)

    def find_endpoint(self, name: str) -> Endpoint | None:
        """Return the running endpoint ``name`` with a valid key; None if it does not run."""
        there = self._endpoint(name)
        found = there.find()
        if found is None or not found.is_ready:
            return None
        key = SecretStr(there.admin_key())
        way_in = self._way_in(name, there.url)
        return Endpoint(url=there.url, name=name, version=found.version, alias=found.alias, key=key, **way_in)

    def release_reports(self, name: str) -> ReleaseReports:
        """Return the reports of the pods of the endpoint ``name`` on the candidate next to its champion.

        Raises:
            DeploymentError: The endpoint does not run, or cannot be reached from here.
        """
        return self._endpoint(name).release_reports()

    def _way_in(self, name: str, url: str) -> dict[str, str]:
        """Return kubectl commands that forward a local port to the endpoint and print its key."""
        config, thing = self.config, object_name(name)
        kubectl = Namespace(config).kubectl
        get = [*kubectl, "get", "secret", f"{thing}-keys", "-o", f"jsonpath={{.data.{CLIENT_KEY}}}"]
        inside = (urlsplit(url).hostname or "").endswith(".svc")
        return {
            "key_command": "" if config.api_keys_secret else f"{shlex.join(get)} | base64 -d",
            "tunnel": shlex.join([*kubectl, "port-forward", f"service/{thing}", f"{PORT}"]) if inside else "",
        }

    def prediction_log(self, name: str) -> Path:
        """Return a folder on this machine, which has only the predictions of batch inference run here.

        Predictions of pods are only in ``serving.prediction_log_store``, which monitoring reads as well, because a
        pod's own folder is lost with the pod.
        """
        return visionops_home() / "prediction-log" / f"{self.config.namespace}-{name}"

    def serve(
        self, bundle_folder: Path, *, name: str, version: str, alias: str, serving: ServingConfig, timeout: float
    ) -> EndpointService:
        """Serve a bundle like `deploy_bundle`, without smoke images, and return the endpoint's record."""
        return self._deploy(bundle_folder, name, version, alias, serving, (), timeout)[0]

    def owns(self, service: EndpointService) -> bool:
        """Return whether the endpoint's pods are in this component's namespace."""
        recorded, own = cast("ClusterService", service).config.cluster, self.config.settings
        return (recorded["namespace"], recorded["kubernetes_context"]) == (own.namespace, own.kubernetes_context)

    def update_record(self, service: EndpointService) -> None:
        """Update a record, which keeps the settings of its creation, with this component's settings."""
        cast("ClusterService", service).config.cluster = self.config.settings.model_dump(mode="json")

    @staticmethod
    def get_model_server_info(service: BaseService) -> dict[str, str | None]:
        """Return the output of `zenml model-deployer models describe`."""
        endpoint = cast("ClusterService", service)
        return {
            "PREDICTION_URL": endpoint.prediction_url,
            "MODEL_NAME": endpoint.config.model_name,
            "MODEL_VERSION": endpoint.status.version,
            "MODEL_ALIAS": endpoint.status.alias,
            "BUNDLE_DIGEST": endpoint.status.digest,
            "NAMESPACE": endpoint.config.cluster["namespace"],
            "OBJECTS": f"{endpoint.ENDPOINT.KIND}/{object_name(endpoint.config.model_name)}",
        }

    def _endpoint(self, name: str) -> ClusterEndpoint:
        return self.SERVICE.ENDPOINT(name, self.config.settings)

    def _deploy(
        self,
        bundle_folder: Path,
        name: str,
        version: str,
        alias: str,
        serving: ServingConfig,
        smoke_images: Sequence[bytes],
        timeout: float | None,
        candidate: Candidate | None = None,
    ) -> tuple[EndpointService, tuple[str, ...]]:
        check_names(name, version)
        if candidate:
            check_names(name, candidate.version)
        there = self._endpoint(name)
        first = there.find() is None
        remark = there.deploy(
            bundle_folder,
            version=version,
            alias=alias,
            serving=serving,
            smoke_images=smoke_images,
            candidate=candidate,
            timeout=timeout,
        )
        remarks = [remark] if remark else []
        if serving.prediction_log and not serving.prediction_log_store:
            remarks.append("predictions of its pods are not logged: set serving.prediction_log_store")
        cluster = self.config.settings.model_dump(mode="json")
        try:
            service = self.record(name, lambda **known: ClusterServiceConfig(cluster=cluster, **known))
        except BaseException:
            if first:  # without a record no command would list the running pods
                there.delete(None)
            raise
        return service, tuple(remarks)


class KubernetesModelDeployer(ClusterModelDeployer):
    """Deployer that serves bundles as Deployments."""

    NAME: ClassVar[str] = "VisionOps Kubernetes"
    SERVICE = KubernetesService


class KubernetesModelDeployerFlavor(DeployerFlavor):
    """Registers `KubernetesModelDeployer` with ZenML."""

    NAME = _FLAVOR
    CONFIG = KubernetesModelDeployerConfig
    DEPLOYER = KubernetesModelDeployer


KubernetesModelDeployer.FLAVOR = KubernetesModelDeployerFlavor
