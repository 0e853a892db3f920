"""Listen on a port of this machine, with one error for a port that another program uses."""

from __future__ import annotations

import socket

from visionops.errors import DeploymentError
from visionops.listening import listen

__all__ = ["open_listener", "port_taken", "ports_to_try"]

_USUAL = 8000
_FIX = "stop the program that uses the port, or set serving.port to another, or to 0 for any free one"


def ports_to_try(wanted: int | None, last: int) -> tuple[int, ...]:
    """Return the ports to try, in this order; 0 is any free one.

    Args:
        wanted: The `serving.port`.
        last: Last port of the endpoint, which its clients know; 0 without one.
    """
    if wanted:
        return (wanted,)
    first = last or (_USUAL if wanted is None else 0)
    return (first, 0) if first else (0,)


def open_listener(host: str, port: int) -> socket.socket:
    """Return a socket that listens on a port; 0 is any free one.

    Raises:
        DeploymentError: Another program uses the port.
    """
    return listen(host, port, _FIX)


def port_taken(host: str, port: int, why: str) -> DeploymentError:
    """Return the error for a port in use, with its fix."""
    return DeploymentError(f"{host}:{port}: cannot listen ({why}); {_FIX}")
