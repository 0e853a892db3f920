"""``python -m deploy.control --configs FOLDER``: run the control service; see ``--help``."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import socket
import sys
from collections.abc import Mapping, Sequence

import uvicorn
from pydantic import SecretStr

from deploy.control.app import create_app
from deploy.control.metrics import ControlMetrics
from deploy.control.options import ControlOptions
from deploy.control.routes.context import Control
from deploy.control.runs.runner import Runner
from deploy.control.work import open_work, runner_of
from deploy.http.connections import Server, limited_protocol
from deploy.http.keys import KeyRing
from deploy.http.logs import configure_logging
from visionops.errors import VisionOpsError
from visionops.listening import listen
from visionops.review_store.opening import open_database

__all__ = ["main", "open_control"]

_GRACE_SECONDS = 10


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Serve until a signal ends the process. Runs continue, and the next start takes them over.

    Returns:
        2 after a mistake of the user, which is printed in one line.
    """
    try:
        options = ControlOptions.parse(sys.argv[1:] if arguments is None else arguments, environment)
        with listen(options.host, options.port) as listener:
            configure_logging(options.log_file)
            control, runner = open_control(options)
            try:
                _serve(control, runner, listener)
            finally:
                control.close()
    except (VisionOpsError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def open_control(options: ControlOptions) -> tuple[Control, Runner]:
    """Open the database, the images and the keys, and build the service.

    Raises:
        VisionOpsError: One of them cannot be opened.
    """
    metrics = ControlMetrics()
    keys = KeyRing(options.keys, _revealed(options.api_keys), _revealed(options.admin_key))
    work = open_work(options, open_database())
    opened = {field.name: getattr(work, field.name) for field in dataclasses.fields(work)}
    control = Control(**opened, options=options, keys=keys, metrics=metrics)
    return control, runner_of(control, options, metrics.run_ended)


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _serve(control: Control, runner: Runner, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    fields = {"url": f"http://{host}:{port}", "pid": os.getpid(), "serves": control.keys.serves}
    logging.getLogger("visionops.control").info("started", extra={"fields": fields})
    options = control.options
    config = uvicorn.Config(
        create_app(control, runner),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        http=limited_protocol(options.max_connections, control.metrics.rejected),
        timeout_keep_alive=math.ceil(options.idle_timeout),
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    Server(config, options.idle_timeout).run(sockets=[listener])


if __name__ == "__main__":
    sys.exit(main())
