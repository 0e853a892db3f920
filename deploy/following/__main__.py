"""``python -m deploy.following --model NAME@ALIAS``: keep a server on that version; see ``--help``."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from deploy.following.follower import Follower
from deploy.following.options import FollowOptions
from visionops.errors import VisionOpsError, one_line

__all__ = ["main"]


def main(
    arguments: Sequence[str] | None = None,
    environment: Mapping[str, str] = os.environ,
    wait: Callable[[float], None] = time.sleep,
) -> int:
    """Follow until interrupted.

    Args:
        wait: Called with the seconds between two checks.

    Returns:
        2 after a mistake in the options, or if ``--check`` finds another version; the reason is printed in one line.
    """
    try:
        options = FollowOptions.parse(sys.argv[1:] if arguments is None else arguments, environment)
        follower = Follower(options)
        if options.check:
            return _check(follower)
    except VisionOpsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    said = ""
    try:
        while True:
            try:
                if version := follower.follow():
                    _say(f"{options.server} serves {version.name} version {version.version} ({options.alias})")
                said = ""
            except VisionOpsError as error:  # such as a server that is still starting; the next check tries again
                if said != (said := one_line(str(error))):
                    _say(f"will try again: {said}")
            wait(options.every)
    except KeyboardInterrupt:
        return 0


def _check(follower: Follower) -> int:
    version = follower.wanted()
    if version is not None and not follower.serves(version):
        sys.stderr.write(f"error: {version.name} version {version.version} is not served yet\n")
        return 2
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    # The first process of a container ignores SIGTERM otherwise, and is killed after the grace period.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
