"""Disks that are full or cannot be written."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["mounted"]


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A disk of its own at ``folder``, which is made; skips the test where mounting is not allowed.

    Args:
        options: Of a tmpfs, as ``size=64k`` or ``ro``.
    """
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk needs the right to mount")
    try:
        yield folder
    finally:
        # Detached at once: a library's thread may hold a file that it has read for a moment more.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
