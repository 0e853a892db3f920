"""Endpoints of champions, and the interface of every model deployer. Deployers implement it; steps call it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from visionops.inference.release_report import ReleaseReports
from visionops.inference.settings import ServingConfig

__all__ = ["Candidate", "Endpoint", "EndpointDeployer"]


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """A model that is tried beside a champion, as set by ``serving.release``."""

    bundle_folder: Path
    version: str
    """Number of the registered version."""


class Endpoint(BaseModel):
    """A running server and the model that it serves."""

    model_config = ConfigDict(frozen=True)

    url: str
    """Base URL, such as `http://127.0.0.1:8000`."""
    name: str
    version: str
    alias: str
    log: str = ""
    """Location of its log if it is on this machine: a file, or the command that prints it."""
    key_command: str = ""
    """Shell command that prints its API key for users who may read it; empty if it needs no key."""
    tunnel: str = ""
    """Command that forwards it to http://127.0.0.1:8000, where its address is reachable only inside a cluster."""
    record: str = ""
    """Id of its record in ZenML, as `zenml model-deployer models` takes it; "" if unknown."""
    remarks: tuple[str, ...] = Field(default=(), exclude=True)
    """Problems of its deployment for the person who has just deployed it, one sentence each."""
    key: SecretStr | None = Field(default=None, exclude=True)
    """Value of the header X-API-Key; never serialized with the rest."""


class EndpointDeployer(Protocol):
    """The stack component that serves bundles."""

    def deploy_bundle(
        self,
        bundle_folder: Path,
        *,
        name: str,
        version: str,
        alias: str,
        serving: ServingConfig,
        smoke_images: Sequence[bytes],
        candidate: Candidate | None = None,
    ) -> Endpoint:
        """Serve a bundle under ``name``; switch a running endpoint of that name without a failed request.

        Args:
            smoke_images: Encoded images that the new model must answer before it gets traffic.
            candidate: Another model to try beside it; None removes the current candidate. Passing the same candidate
                again continues its hold.

        Raises:
            DeploymentError: It does not start or does not answer; the previous model keeps serving.
        """

    def release_reports(self, name: str) -> ReleaseReports:
        """Return what the servers of the endpoint ``name`` report about the candidate beside its champion.

        Raises:
            DeploymentError: No endpoint runs under that name, or it cannot be reached from here.
        """

    def prediction_log(self, name: str) -> Path:
        """Return the folder of the prediction log of endpoint ``name``; it exists after the first answer."""

    def find_endpoint(self, name: str) -> Endpoint | None:
        """Return the running endpoint ``name`` with a valid API key, or None if none runs under that name."""
