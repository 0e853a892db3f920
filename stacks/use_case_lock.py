"""One run of a use case at a time on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from filelock import Timeout

from stacks.lock_files import held_lock
from visionops.errors import VisionOpsError

__all__ = ["use_case_lock"]


@contextmanager
def use_case_lock(use_case: str, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the use case while the block runs. The kernel frees the lock when its holder dies, however it dies.

    Args:
        on_wait: Called before waiting for the present holder; without it nobody waits.

    Raises:
        VisionOpsError: Another run of the use case is at work, or VISIONOPS_HOME cannot be written.
    """
    with ExitStack() as held:
        try:
            held.enter_context(held_lock(use_case, on_wait))
        except Timeout as error:
            raise VisionOpsError(
                f"{use_case}: another run of this use case is at work; wait for it or end it"
            ) from error
        yield
