"""Locate the folder for what a run leaves on this machine: rendered data, training work, endpoints."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["visionops_home"]


def visionops_home() -> Path:
    """Return `$VISIONOPS_HOME`, or `.visionops` beside the code, as an absolute path; it is not created here."""
    chosen = os.environ.get("VISIONOPS_HOME")
    return Path(chosen).expanduser().resolve() if chosen else Path(__file__).resolve().parents[1] / ".visionops"
