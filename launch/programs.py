"""Find the command that calls a program of this environment."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

__all__ = ["program"]


def program(name: str) -> str:
    """Return the command for a program of this environment: ``zenml`` if PATH has it, or ``.venv/bin/zenml``."""
    beside, here = Path(sys.executable).parent / name, Path.cwd()
    if shutil.which(name) == str(beside):  # PATH may have another environment's program
        return name
    return shlex.quote(str(beside.relative_to(here) if beside.is_relative_to(here) else beside))
