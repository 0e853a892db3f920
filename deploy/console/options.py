"""Options of the console."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from deploy.control.options import WorkOptions

__all__ = ["ConsoleOptions"]


class ConsoleOptions(WorkOptions):
    """One process of the console."""

    PROGRAM: ClassVar[str] = "visionops console"
    DESCRIPTION: ClassVar[str] = (
        "Open the console: predict, review, search, train and watch models in a browser. Without users it serves this "
        "machine only; `visionops user add NAME --role admin` makes the first one."
    )

    host: str = "127.0.0.1"
    """Address to listen on; another than this machine's needs users."""
    port: int = Field(default=8200, ge=0, le=65535)
    """Port to listen on; 0: any free port."""
    starts_runs: bool = True
    """Start the runs of the queue; false where a control service over the same database does."""
    max_upload_bytes: int = Field(default=20_000_000, ge=1)
    """Largest accepted image file."""
    max_connections: int = Field(default=512, ge=1, le=100_000)
    """Connections at once; more are refused with 503."""
    idle_timeout: float = Field(default=75, gt=0, le=3600)
    """Seconds a connection may stay without a request in work."""
    log_file: Path | None = None
    """JSON lines go here, rotated at 10 MB; to console/console.log below $VISIONOPS_HOME when absent."""
