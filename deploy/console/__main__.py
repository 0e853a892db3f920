"""``python -m deploy.console``, or ``visionops console``: run the web application; see ``--help``."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import uvicorn

from deploy.console.access import NO_USERS, Access
from deploy.console.context import Console
from deploy.console.facts import Facts
from deploy.console.metrics import ConsoleMetrics
from deploy.console.options import ConsoleOptions
from deploy.control.runs.runner import Runner
from deploy.control.work import ROOT, open_work, runner_of
from deploy.http.connections import limited_protocol
from deploy.http.keys import KeyRing
from deploy.http.local import is_loopback
from deploy.http.logs import configure_logging
from visionops.errors import ConfigError, VisionOpsError
from visionops.home import visionops_home
from visionops.listening import listen
from visionops.review_store.database import Database
from visionops.review_store.opening import open_database
from visionops.review_store.users import SqlUserStore

__all__ = ["main", "open_console"]

_GRACE_SECONDS = 5


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Serve until a signal ends the process. Runs continue, and the next start takes them over.

    Returns:
        2 after a mistake of the user, which is printed in one line.
    """
    try:
        options = ConsoleOptions.parse(sys.argv[1:] if arguments is None else arguments, environment)
        database = open_database()
        _check_audience(options, database)
        with listen(options.host, options.port) as listener:
            configure_logging(_log_file(options))
            console, runner = open_console(options, database)
            try:
                _serve(console, runner, listener)
            finally:
                console.facts.close()
                console.close()
    except (VisionOpsError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def open_console(options: ConsoleOptions, database: Database) -> tuple[Console, Runner | None]:
    """Open the images and use cases, and build the console.

    Raises:
        VisionOpsError: One of them cannot be opened.
    """
    work = open_work(options, database)
    lines = None if options.api_keys is None else options.api_keys.get_secret_value()
    access = Access(SqlUserStore(database), options, KeyRing(options.keys, lines), work.now)
    console = Console(
        use_cases=work.use_cases,
        runs=work.runs,
        launcher=work.launcher,
        models=work.models,
        review=work.review,
        options=options,
        facts=Facts(ROOT, options.stack),
        metrics=ConsoleMetrics(),
        access=access,
    )
    runner = runner_of(console, options, console.metrics.run_ended) if options.starts_runs else None
    return console, runner


def _check_audience(options: ConsoleOptions, database: Database) -> None:
    """Check that other machines are served only if users must sign in.

    Raises:
        ConfigError: The console listens for other machines, but has no users.
    """
    if options.oidc_issuer or SqlUserStore(database).has_users():
        return
    for flag, is_open in (
        ("--host", not is_loopback(options.host)),
        ("--public-url", bool(options.public_url)),
        ("--trusted-proxies", bool(options.trusted_proxies)),
    ):
        if is_open:
            raise ConfigError(f"{flag}: {NO_USERS}")


def _log_file(options: ConsoleOptions) -> Path:
    if options.log_file:
        return options.log_file
    folder = visionops_home() / "console"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "console.log"


def _serve(console: Console, runner: Runner | None, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    # NiceGUI requires this at import for its storage, which our pages do not use.
    os.environ.setdefault("NICEGUI_STORAGE_PATH", str(visionops_home() / "console" / "pages"))
    from deploy.console.app import create_app

    options = console.options
    config = uvicorn.Config(
        create_app(console, runner),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(options.trusted_proxies),
        forwarded_allow_ips=list(options.trusted_proxies),
        http=limited_protocol(options.max_connections, console.metrics.rejected),
        timeout_keep_alive=int(options.idle_timeout),
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    url = f"http://{host}:{port}"
    logging.getLogger("visionops.console").info("started", extra={"fields": {"url": url, "pid": os.getpid()}})
    if not is_loopback(host) and not options.is_https:
        sys.stderr.write("warning: passwords are sent unencrypted; use an HTTPS proxy, and set --public-url\n")
    sys.stdout.write(f"console   {url}\nstop it with Ctrl-C\n")
    sys.stdout.flush()
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    sys.exit(main())
