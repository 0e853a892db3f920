"""One run of a use case at a time on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from visionops.errors import VisionOpsError
from visionops.home import visionops_home

__all__ = ["one_run_at_a_time"]


@contextmanager
def one_run_at_a_time(use_case: str) -> Iterator[None]:
    """Hold the lock of a use case on this machine.

    Raises:
        VisionOpsError: Another process holds it, or its file cannot be written.
    """
    folder = visionops_home() / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The kernel frees this lock when its holder dies, however it dies.
        with FileLock(folder / f"{use_case}.lock", timeout=0):
            yield
    except Timeout as error:
        raise VisionOpsError(f"{use_case}: another run of this use case is at work; wait for it or end it") from error
    except PermissionError as error:
        raise VisionOpsError(f"{error.filename}: cannot be written; set VISIONOPS_HOME to a folder that can") from error
