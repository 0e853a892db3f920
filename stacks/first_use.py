"""The first use of ZenML's and MLflow's databases, which both make when a program first opens them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock

from visionops.errors import VisionOpsError
from visionops.home import visionops_home

__all__ = ["opened_in_turn"]


@contextmanager
def opened_in_turn() -> Iterator[None]:
    """Hold off the other programs of this machine while the block opens the databases: two that make one break it.

    The kernel frees the lock when its holder dies, however it dies.

    Raises:
        VisionOpsError: VISIONOPS_HOME cannot be written.
    """
    folder = visionops_home() / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "first-use.lock")
        lock.acquire()
    except PermissionError as error:
        raise VisionOpsError(f"{error.filename}: cannot be written; set VISIONOPS_HOME to a folder that can") from error
    try:
        yield
    finally:
        lock.release()
