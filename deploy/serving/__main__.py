"""``python -m deploy.serving --bundle DIR --name NAME --version N``, or ``--models FILE``; see ``--help``."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Mapping, Sequence

import uvicorn

from deploy.serving.app import create_app
from deploy.serving.logs import configure_logging
from deploy.serving.models import Loader, ServedModel
from deploy.serving.settings import Settings, read_settings
from deploy.serving.starting import Started, start_models
from visionops.errors import DeploymentError, VisionOpsError

__all__ = ["main"]

_GRACE_SECONDS = 10
_BACKLOG = 128


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Serve until told to stop.

    Returns:
        2 after a mistake of the user, which is printed in one line.
    """
    try:
        settings = read_settings(sys.argv[1:] if arguments is None else arguments, environment)
        with _listen(settings) as listener:
            configure_logging(settings.log_file)
            loader = Loader(settings)
            _serve(settings, start_models(settings, loader), loader, listener)
    except (VisionOpsError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def _serve(settings: Settings, started: Sequence[Started], loader: Loader, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    app = create_app(settings, started, loader)
    fields = {
        "url": f"http://{host}:{port}",
        "pid": os.getpid(),
        **_identity(started),
        "serves": app.state.serving.keys.serves,
    }
    logging.getLogger("visionops.serving").info("started", extra={"fields": fields})
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _identity(started: Sequence[Started]) -> dict[str, str]:
    return next((s.outcome.identity for s in started if isinstance(s.outcome, ServedModel)), {})


def _listen(settings: Settings) -> socket.socket:
    """Bound before the model loads: a port in use is known at once."""
    if settings.fd is not None:
        return socket.socket(fileno=settings.fd)
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise DeploymentError(
            f"{settings.host}:{settings.port}: cannot listen ({_reason(error)}); choose another with --port, or 0"
        ) from error


def _reason(error: OSError) -> str:
    # `create_server` adds the address, which the message names already; a name that does not resolve has no errno.
    return str(error.strerror).partition(" (while")[0]


if __name__ == "__main__":
    sys.exit(main())
