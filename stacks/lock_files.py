"""Locks between the programs of this machine, as files below VISIONOPS_HOME."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from visionops.errors import VisionOpsError
from visionops.home import visionops_home

__all__ = ["held_lock"]


@contextmanager
def held_lock(name: str, on_wait: Callable[[], None] | None) -> Iterator[None]:
    """Hold a lock while the block runs. The kernel frees it when its holder dies, however it dies.

    Args:
        name: Of the file, without suffix.
        on_wait: Called before waiting for the present holder; without it nobody waits.

    Raises:
        filelock.Timeout: Another program holds it, and nobody waits.
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
        raise VisionOpsError(f"{error.filename}: cannot be written; set VISIONOPS_HOME to a folder that can") from error
    try:
        yield
    finally:
        lock.release()
