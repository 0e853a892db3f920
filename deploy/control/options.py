"""Options of the control service, and its API keys."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, SecretStr

from visionops.options import CommandOptions, comma_separated

__all__ = ["ControlOptions", "WorkOptions"]


class WorkOptions(CommandOptions):
    """Options for use cases, stack and runs."""

    configs: Path = Path("configs")
    """Folder of use-case files; only these can be trained."""
    stack: str | None = None
    """Stack of runs; the active one when absent."""
    runs: Path | None = None
    """Folder of the runs' logs; control/runs below $VISIONOPS_HOME when absent."""
    launcher: Literal["process", "kubernetes"] = "process"
    """How to start a run: as a process on this machine, or as a Job of a cluster."""
    job_template: Path | None = None
    """With kubernetes: YAML file with the template of a run's Job."""
    namespace: str = "visionops"
    """With kubernetes: namespace of the Jobs."""
    grace: float = Field(default=30, ge=0, le=3600)
    """Seconds that a cancelled run has to end before it is killed."""

    @property
    def grace_time(self) -> timedelta:
        """Return the time that a cancelled run has to end before it is killed."""
        return timedelta(seconds=self.grace)


class ControlOptions(WorkOptions):
    """Options of one process of the control service."""

    PROGRAM: ClassVar[str] = "visionops control"
    DESCRIPTION: ClassVar[str] = "The VisionOps control service: runs, models and reviews over HTTP."
    SECRETS: ClassVar[frozenset[str]] = frozenset({"api_keys", "admin_key"})

    host: str = "127.0.0.1"
    """Address to listen on; by default this machine only."""
    port: int = Field(default=8100, ge=0, le=65535)
    """Port to listen on; 0: any free port."""
    keys: Path | None = None
    """File of API keys: id role sha256:hex; without keys only this machine is served."""
    open_metrics: bool = False
    """Serve /metrics without a key."""
    rate: str | None = None
    """Rate limit per key, or per address if there are no keys, such as 100/minute; further requests get 429."""
    cors_origins: Annotated[tuple[str, ...], BeforeValidator(comma_separated)] = ()
    """Origins of pages that may call the service from a browser, separated by commas."""
    max_upload_bytes: int = Field(default=20_000_000, ge=1)
    """Largest accepted image file."""
    max_connections: int = Field(default=256, ge=1, le=100_000)
    """Maximum number of connections; further ones get 503."""
    upload_timeout: float = Field(default=30, gt=0, le=3600)
    """Seconds for the body of a request to arrive; later ones get 408."""
    idle_timeout: float = Field(default=15, gt=0, le=3600)
    """Seconds that a connection may be idle, or may leave a response unread."""
    log_file: Path | None = None
    """Log file with JSON lines, rotated at 10 MB; standard output when absent."""
    api_keys: SecretStr | None = None
    """The lines of a file of API keys."""
    admin_key: SecretStr | None = None
    """An additional key of role admin; on its own it does not make other routes require a key."""
