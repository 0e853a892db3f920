"""Lock files below VISIONOPS_HOME, shared by the programs of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from visionops.errors import VisionOpsError
from visionops.home import visionops_home

__all__ = ["held_lock"]


@contextmanager
def held_lock(name: str, on_wait: Callable[[], None] | None) -> Iterator[None]:
    """Hold a lock while the block runs. The kernel frees it when its holder dies for any reason.

    Args:
        name: File name without suffix.
        on_wait: Function to call before waiting for the current holder; None does not wait.

    Raises:
        filelock.Timeout: Another program holds the lock, and ``on_wait`` is None.
        VisionOpsError: VISIONOPS_HOME cannot be written.
    """
    folder = visionops_home() / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if on_wait is None:
                raise
            on_wait()
            lock.acquire(timeout=-1)
    except PermissionError as error:
        raise VisionOpsError(f"{error.filename}: cannot be written; set VISIONOPS_HOME to a writable folder") from error
    try:
        yield
    finally:
        lock.release()
