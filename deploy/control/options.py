"""Options of the control service, and the keys that open it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, SecretStr

from visionops.options import CommandOptions, comma_separated

__all__ = ["ControlOptions", "WorkOptions"]


class WorkOptions(CommandOptions):
    """What is trained, on which stack, and how a run is started."""

    configs: Path = Path("configs")
    """Folder of use-case files; only these can be trained."""
    stack: str | None = None
    """Stack of runs; the active one when absent."""
    runs: Path | None = None
    """Folder of the runs' logs; control/runs below $VISIONOPS_HOME when absent."""
    launcher: Literal["process", "kubernetes"] = "process"
    """What a run is: a process of this machine, or a Job of the cluster."""
    job_template: Path | None = None
    """With kubernetes: YAML file of the Job that a run becomes."""
    namespace: str = "visionops"
    """With kubernetes: where Jobs are made."""
    grace: float = Field(default=30, ge=0, le=3600)
    """Seconds from the interrupt of a cancelled run to its kill."""

    @property
    def grace_time(self) -> timedelta:
        """From the interrupt of a cancelled run to its kill."""
        return timedelta(seconds=self.grace)


class ControlOptions(WorkOptions):
    """One process of the control service."""

    PROGRAM: ClassVar[str] = "python -m deploy.control"
    DESCRIPTION: ClassVar[str] = "The VisionOps control service: runs, models and reviews over HTTP."
    SECRETS: ClassVar[frozenset[str]] = frozenset({"api_keys", "admin_key"})

    host: str = "127.0.0.1"
    """Address to listen on: this machine only, unless told otherwise."""
    port: int = Field(default=8100, ge=0, le=65535)
    """Port to listen on; 0: any free port."""
    keys: Path | None = None
    """File of API keys: id role sha256:hex; without keys only this machine is served."""
    open_metrics: bool = False
    """Serve /metrics without a key."""
    rate: str | None = None
    """Requests of one key, or one address where there are no keys: 100/minute; more get 429."""
    cors_origins: Annotated[tuple[str, ...], BeforeValidator(comma_separated)] = ()
    """Origins of pages that may call the service from a browser, separated by commas."""
    max_upload_bytes: int = Field(default=20_000_000, ge=1)
    """Largest accepted image file."""
    max_connections: int = Field(default=256, ge=1, le=100_000)
    """Connections at once; more are refused with 503."""
    upload_timeout: float = Field(default=30, gt=0, le=3600)
    """Seconds for the body of a request to arrive; then 408."""
    idle_timeout: float = Field(default=15, gt=0, le=3600)
    """Seconds a connection may stay without a request in work, or with an answer that is not read."""
    log_file: Path | None = None
    """JSON lines go here, rotated at 10 MB; to standard output when absent."""
    api_keys: SecretStr | None = None
    """The lines of a file of API keys."""
    admin_key: SecretStr | None = None
    """One more key of role admin; it alone does not make the other routes ask for one."""
