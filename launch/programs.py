"""How a person calls the programs of this environment."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

__all__ = ["program"]


def program(name: str) -> str:
    """Return a program of this environment as it is typed here: ``zenml`` where PATH has it, or ``.venv/bin/zenml``."""
    if shutil.which(name):
        return name
    beside = Path(sys.executable).parent / name
    here = Path.cwd()
    return os.path.relpath(beside, here) if beside.is_relative_to(here) else str(beside)
