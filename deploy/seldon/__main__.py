"""``python -m deploy.seldon``: run Seldon's microservice with `VisionOps`, with Seldon's arguments and variables.

On SIGTERM the whole process ends. Seldon's own program does not: its HTTP server ends, and then waits forever for the
gRPC server, which never receives the signal.
"""

from __future__ import annotations

import os
import signal
import sys

from seldon_core import microservice

__all__ = ["main"]

_CLASS = "deploy.seldon.component.VisionOps"


def main() -> None:
    """Serve until a signal ends the process."""
    sys.argv[1:1] = [_CLASS, "--service-type", "MODEL"]
    me = os.getpid()
    if os.getpgrp() != me:
        os.setpgid(0, 0)
    try:
        microservice.main()
    finally:
        # Each gunicorn worker is a fork, which also reaches this line when it ends.
        if os.getpid() == me:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.killpg(0, signal.SIGTERM)


if __name__ == "__main__":
    main()
