"""``python -m deploy.serving --bundle DIR --name NAME --version N``, or ``--models FILE``: run a prediction server."""

from __future__ import annotations

import gc
import logging
import math
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from deploy.http.logs import configure_logging
from deploy.serving.models.memory import share_arenas
from deploy.serving.models.models import Loader
from deploy.serving.models.startup import start_models
from deploy.serving.settings import Settings
from visionops.errors import VisionOpsError
from visionops.listening import listen

if TYPE_CHECKING:
    from fastapi import FastAPI

    from deploy.serving.routes.context import Serving

__all__ = ["main"]

_GRACE_SECONDS = 10
_FRAME_SLACK = 2
"""A frame up to this factor over the limit is refused with a message; a larger one closes the connection."""


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Serve until a signal ends the process.

    Returns:
        2 after a mistake of the user, which is printed in one line.
    """
    try:
        settings = Settings.parse(sys.argv[1:] if arguments is None else arguments, environment)
        share_arenas()
        with _listener(settings) as listener:
            configure_logging(settings.log_file)
            _serve(_application(settings), listener)
    except (VisionOpsError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def _application(settings: Settings) -> FastAPI:
    loader = Loader(settings)
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(start_models, settings, loader)
        # Import the framework while the engine compiles.
        import deploy.http.connections  # noqa: F401 - for `_serve`
        from deploy.serving.app import create_app

        if settings.prediction_log:
            import visionops.monitoring.log  # noqa: F401 - for the application; pyarrow takes a while

    # Only the application may keep references to the first models, so that they are freed when they are replaced.
    return create_app(settings, loading.result(), loader)


def _serve(app: FastAPI, listener: socket.socket) -> None:
    import uvicorn

    from deploy.http.connections import Server, limited_protocol

    host, port = listener.getsockname()[:2]
    serving: Serving = app.state.serving
    fields = {
        "url": f"http://{host}:{port}",
        "pid": os.getpid(),
        **next((model.identity for _, model in serving.models.all()), {}),
        "serves": serving.keys.serves,
    }
    logging.getLogger("visionops.serving").info("started", extra={"fields": fields})
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        # No compression: JPEG is compressed already, and a small compressed frame may expand to a huge one.
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_max_size=_FRAME_SLACK * serving.models.most_upload_bytes(serving.settings.max_upload_bytes),
        http=limited_protocol(serving.settings.max_connections, serving.metrics.rejected),
        timeout_keep_alive=math.ceil(serving.settings.idle_timeout),
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    # Long-lived objects need not be scanned again by each collection that frees a replaced model.
    gc.collect()
    gc.freeze()
    Server(config, serving.settings.idle_timeout).run(sockets=[listener])


def _listener(settings: Settings) -> socket.socket:
    if settings.fd is not None:
        return socket.socket(fileno=settings.fd)
    return listen(settings.host, settings.port)


if __name__ == "__main__":
    sys.exit(main())
