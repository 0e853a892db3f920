"""Implement the common part of model deployers whose endpoints are on this machine, each with a folder.

Only ZenML is imported at the top: every `zenml` command loads the modules of flavors.
"""

from __future__ import annotations

import functools
import shlex
from abc import abstractmethod
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

from pydantic import SecretStr
from zenml.enums import ServiceState
from zenml.services.service import BaseService

from stacks.deployers.base import (
    BundleDeployer,
    EndpointService,
    EndpointServiceConfig,
    EndpointServiceStatus,
    check_names,
)
from stacks.deployers.host_endpoint import Listening, StoredEndpoint
from stacks.deployers.ports import open_listener
from visionops.endpoint import Candidate, Endpoint
from visionops.errors import DeploymentError
from visionops.inference.release_report import ReleaseReports
from visionops.inference.settings import ServingConfig

__all__ = ["MachineDeployer", "MachineService", "MachineServiceConfig"]

_TIMEOUT = 120.0


class MachineServiceConfig(EndpointServiceConfig):
    """Endpoint of a ZenML service record."""

    folder: str = ""


class MachineService(EndpointService):
    """ZenML's view of one endpoint."""

    config: MachineServiceConfig
    status: EndpointServiceStatus = EndpointServiceStatus()

    @property
    @abstractmethod
    def stored(self) -> StoredEndpoint[Any]:
        """Return the endpoint of the record."""

    def check_status(self) -> tuple[ServiceState, str]:
        """Check the server and update the status with its model."""
        stored = self.stored
        server = stored.server
        if server is None:
            return ServiceState.INACTIVE, "nothing is deployed"
        self.take_over(server)
        if stored.is_ready():
            return ServiceState.ACTIVE, ""
        if stored.is_running:
            return ServiceState.ERROR, f"it runs but is not ready; see {stored.log_hint}"
        self.gone()
        if server.stopped:
            return ServiceState.INACTIVE, "stopped"
        return ServiceState.ERROR, f"it exited unexpectedly; start it again, and see {stored.log_hint}"

    def take_over(self, server: Listening) -> None:
        """Copy the model and address of ``server`` into the status."""
        self.status.url = server.url
        self.status.version, self.status.alias = server.served.version, server.served.alias
        self.status.digest = server.served.digest

    def gone(self) -> None:
        """Clear the model and address in the status of a stopped server."""

    def get_logs(self, follow: bool = False, tail: int | None = None) -> Generator[str, bool, None]:
        """Yield lines of the server's log."""
        import time

        lines = self.stored.log_lines()
        yield from lines[-tail:] if tail else lines
        while follow:
            time.sleep(0.5)
            seen, lines = len(lines), self.stored.log_lines()
            yield from lines[seen:] if len(lines) >= seen else lines  # fewer lines mean that it was rotated

    def bring_up(self, timeout: float) -> None:
        """Start the stopped server again with its last model."""
        self.stored.start(timeout)

    def shut_down(self, timeout: float, *, force: bool) -> None:
        """Stop the server; `bring_up` can start it again."""
        self.stored.stop(timeout, force=force)

    def remove(self, timeout: float, *, force: bool) -> None:
        """Stop the server and remove its files."""
        self.stored.delete(timeout, force=force)


class MachineDeployer(BundleDeployer):
    """Deployer that serves bundles on this machine, each with a folder."""

    CONFIG: ClassVar[type[MachineServiceConfig]] = MachineServiceConfig
    """Class of the records' settings."""

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Return the folder with one subfolder for each endpoint."""

    @property
    @abstractmethod
    def host(self) -> str:
        """Return the address that endpoints listen on."""

    @abstractmethod
    def stored(self, name: str) -> StoredEndpoint[Any]:
        """Return the endpoint ``name``, which need not exist."""

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
        """Serve a bundle under ``name``; a running endpoint of that name is switched without a failed request.

        Args:
            smoke_images: Encoded images that the new model must answer before it gets traffic.
            candidate: Another model to try as canary or shadow.

        Raises:
            BundleError: The bundle is corrupt.
            DeploymentError: The new model does not start or answer; the previous one still serves.
        """
        service = self.serve(
            bundle_folder,
            name=name,
            version=version,
            alias=alias,
            serving=serving,
            smoke_images=smoke_images,
            candidate=candidate,
        )
        endpoint = self.find_endpoint(name)
        if endpoint is None:
            raise DeploymentError(f"{name} version {version}: it answered, but has stopped since")
        # The result becomes an artifact, so it must not contain the key.
        return endpoint.model_copy(update={"key": None, "record": str(service.uuid)})

    def find_endpoint(self, name: str) -> Endpoint | None:
        """Return the running endpoint ``name`` with a valid key; None if it does not run."""
        stored = self.stored(name)
        server = stored.server
        if server is None or not stored.is_running:
            return None
        return Endpoint(
            url=server.url,
            name=server.served.name,
            version=server.served.version,
            alias=server.served.alias,
            log=stored.log_hint,
            key_command=f"cat {shlex.quote(str(stored.key_path))}" if stored.ASKS_FOR_KEY else "",
            key=SecretStr(stored.admin_key()),
        )

    def check_port(self, name: str, port: int) -> None:
        """Check that the endpoint ``name`` can listen on ``port``.

        Raises:
            DeploymentError: Another program listens there.
        """
        stored = self.stored(name)
        server = stored.server
        if server is None or not stored.is_running or server.port != port:
            open_listener(self.host, port).close()

    def release_reports(self, name: str) -> ReleaseReports:
        """Return the report of the endpoint ``name`` on the candidate next to its champion.

        Raises:
            DeploymentError: The endpoint does not run, or does not answer.
        """
        return ReleaseReports.of([self.stored(name).release_report()])

    def prediction_log(self, name: str) -> Path:
        """Return the folder of the prediction log of the endpoint ``name``, which the first prediction creates."""
        return self.stored(name).predictions

    def serve(
        self,
        bundle_folder: Path,
        *,
        name: str,
        version: str,
        alias: str,
        serving: ServingConfig,
        timeout: float = _TIMEOUT,
        smoke_images: Sequence[bytes] = (),
        candidate: Candidate | None = None,
    ) -> EndpointService:
        """Serve a bundle like `deploy_bundle` and return the endpoint's record."""
        check_names(name, version)
        if candidate:
            check_names(name, candidate.version)
        stored = self.stored(name)
        first = stored.server is None
        stored.deploy(
            bundle_folder,
            name=name,
            version=version,
            alias=alias,
            serving=serving,
            smoke_images=smoke_images,
            candidate=candidate,
            host=self.host,
            timeout=timeout,
        )
        try:
            return self.record(name, functools.partial(self.CONFIG, folder=str(stored.folder)))
        except BaseException:
            if first:  # without a record no command would list the running server
                stored.delete(force=True)
            raise

    def owns(self, service: EndpointService) -> bool:
        """Return whether the endpoint's folder is one of ours."""
        return Path(cast("MachineService", service).config.folder).parent == self.folder

    @staticmethod
    def get_model_server_info(service: BaseService) -> dict[str, str | None]:
        """Return the output of `zenml model-deployer models describe`."""
        endpoint = cast("MachineService", service)
        return {
            "PREDICTION_URL": endpoint.prediction_url,
            "MODEL_NAME": endpoint.config.model_name,
            "MODEL_VERSION": endpoint.status.version,
            "MODEL_ALIAS": endpoint.status.alias,
            "BUNDLE_DIGEST": endpoint.status.digest,
            "LOG_FILE": endpoint.stored.log_hint,
        }
