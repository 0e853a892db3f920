"""``python -m deploy.seldon``: Seldon's microservice with `VisionOps`; its own arguments and variables hold.

It ends when it is told to. Seldon's alone does not: its HTTP server ends on SIGTERM, and then waits for the gRPC
server, which nobody told.
"""

from __future__ import annotations

import os
import signal
import sys

from seldon_core import microservice

__all__ = ["main"]

_CLASS = "deploy.seldon.component.VisionOps"


def main() -> None:
    """Serve until told to end."""
    sys.argv[1:1] = [_CLASS, "--service-type", "MODEL"]
    me = os.getpid()
    if os.getpgrp() != me:
        os.setpgid(0, 0)
    try:
        microservice.main()
    finally:
        # Each worker of gunicorn is a fork that comes by here, too, when it ends.
        if os.getpid() == me:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.killpg(0, signal.SIGTERM)


if __name__ == "__main__":
    main()
