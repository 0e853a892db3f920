"""How a person calls the programs of this environment."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

__all__ = ["program"]


def program(name: str) -> str:
    """Return a program of this environment as it is typed here: ``zenml`` where PATH has it, or ``.venv/bin/zenml``."""
    beside, here = Path(sys.executable).parent / name, Path.cwd()
    if shutil.which(name) == str(beside):  # not that of another environment
        return name
    return shlex.quote(str(beside.relative_to(here) if beside.is_relative_to(here) else beside))
