"""Open the listening socket of a server before any slow work, so that a port in use is reported at once."""

from __future__ import annotations

import socket

from visionops.errors import DeploymentError

__all__ = ["listen"]

_BACKLOG = 128


def listen(host: str, port: int, fix: str = "choose another with --port, or 0") -> socket.socket:
    """Return a socket that listens.

    Args:
        port: 0 for any free one.
        fix: End of the error message: what to do about a port in use.

    Raises:
        DeploymentError: The port is in use, or the host has no address.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise DeploymentError(f"{host}:{port}: cannot listen ({_reason(error)}); {fix}") from error


def _reason(error: OSError) -> str:
    # `create_server` adds the address, which our message has already; an unresolved host name has no errno.
    return str(error.strerror).partition(" (while")[0]
