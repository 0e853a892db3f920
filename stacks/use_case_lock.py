"""Allow one run of a use case at a time on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from filelock import Timeout

from stacks.lock_files import held_lock
from visionops.errors import VisionOpsError

__all__ = ["use_case_lock"]


@contextmanager
def use_case_lock(use_case: str, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Lock the use case while the block runs. The kernel frees the lock when its holder dies for any reason.

    Args:
        on_wait: Function to call before waiting for the current holder; None does not wait.

    Raises:
        VisionOpsError: Another run of the use case is active, or VISIONOPS_HOME cannot be written.
    """
    with ExitStack() as held:
        try:
            held.enter_context(held_lock(use_case, on_wait))
        except Timeout as error:
            raise VisionOpsError(
                f"{use_case}: another run of this use case is active; wait for it or stop it"
            ) from error
        yield
