"""One run of a use case at a time on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from visionops.errors import VisionOpsError
from visionops.home import visionops_home

__all__ = ["use_case_lock"]


@contextmanager
def use_case_lock(use_case: str, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the use case while the block runs. The kernel frees the lock when its holder dies, however it dies.

    Args:
        on_wait: Called before waiting for the present holder; without it nobody waits.

    Raises:
        VisionOpsError: Another run of the use case is at work, or VISIONOPS_HOME cannot be written.
    """
    folder = visionops_home() / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{use_case}.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            if on_wait is None:
                raise
            on_wait()
            lock.acquire(timeout=-1)
    except Timeout as error:
        raise VisionOpsError(f"{use_case}: another run of this use case is at work; wait for it or end it") from error
    except PermissionError as error:
        raise VisionOpsError(f"{error.filename}: cannot be written; set VISIONOPS_HOME to a folder that can") from error
    try:
        yield
    finally:
        lock.release()
