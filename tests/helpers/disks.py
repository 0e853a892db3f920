"""Mount disks that are full or read-only."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["mounted"]


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """Mount a separate disk at ``folder``, which is created; skip the test where mounting is not allowed.

    Args:
        options: Options of a tmpfs, such as ``size=64k`` or ``ro``.
    """
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk needs the right to mount")
    try:
        yield folder
    finally:
        # Detached lazily, because a thread of a library may keep a file open for a moment.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
