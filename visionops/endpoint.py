"""Where a champion answers, and what every model deployer can do. Deployers implement it; steps call it."""

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
    """A model that is tried beside a champion, as ``serving.release`` says."""

    bundle_folder: Path
    version: str
    """Registered version."""


class Endpoint(BaseModel):
    """A server that answers, and the model that it serves."""

    model_config = ConfigDict(frozen=True)

    url: str
    """Base address, as `http://127.0.0.1:8000`."""
    name: str
    version: str
    alias: str
    log: str = ""
    """Where its log is, when it is on this machine: a file, or the command that shows it."""
    key_command: str = ""
    """Prints its key, where it asks for one: for a shell, and for who may read it."""
    tunnel: str = ""
    """The command by which it answers at http://127.0.0.1:8000, where only a cluster's own pods reach its address."""
    record: str = ""
    """Id of its record in ZenML, which `zenml model-deployer models` takes; "" where none is known."""
    remarks: tuple[str, ...] = Field(default=(), exclude=True)
    """What its deployment could not see to, in a sentence each; for who has just deployed it."""
    key: SecretStr | None = Field(default=None, exclude=True)
    """For the header X-API-Key; never written with the rest."""


class EndpointDeployer(Protocol):
    """The part of a stack that serves bundles."""

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
        """Serve a bundle under ``name``; a running endpoint of that name is switched without a failed request.

        Args:
            smoke_images: Encoded images that the new model must answer before it gets traffic.
            candidate: Another model that is tried beside it; None: none is, and one that was tried is taken away. The
                same again goes on with its hold.

        Raises:
            DeploymentError: It does not start or does not answer; what served before still serves.
        """

    def release_reports(self, name: str) -> ReleaseReports:
        """What the servers of the endpoint ``name`` say of the candidate beside its champion.

        Raises:
            DeploymentError: Nothing runs under that name, or it cannot be reached from here.
        """

    def prediction_log(self, name: str) -> Path:
        """The folder in which the endpoint ``name`` remembers what it was asked; there once it has answered."""

    def find_endpoint(self, name: str) -> Endpoint | None:
        """The running endpoint ``name``, with a key that opens it; None: nothing runs under that name."""
