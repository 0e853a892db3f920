"""Start, switch, stop and find a prediction server that runs as a process on this machine.

Its folder has the files of `stacks.deployers.host_endpoint` and two more: server.log, its log as JSON lines, rotated;
and server.err, its other output.

Knows nothing of ZenML.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import psutil
import requests

from stacks.deployers.host_endpoint import (
    GRACE_SECONDS,
    HostedModel,
    Listening,
    StoredEndpoint,
    http,
    port_taken,
    reason,
    store_variables,
)
from visionops.errors import DeploymentError
from visionops.inference.server_options import ADMIN_KEY_VARIABLE, SERVER_MODULE, ServerOptions

__all__ = ["HostedModel", "LocalEndpoint", "Server"]

_ROOT = Path(__file__).resolve().parents[2]
_POLL_SECONDS = 0.02
_BACKLOG = 128
_CLOCK_SLACK_SECONDS = 2.0
_LAST_WORDS_SECONDS = 5.0
_INHERITED = {"PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "TZ", "OMP_NUM_THREADS"}

_children: dict[int, subprocess.Popen[bytes]] = {}
"""Servers started by this process: kept, because a forgotten child cannot be reaped."""


class Server(Listening):
    """A server process and what it serves."""

    pid: int
    started: float
    """Start time of the process: a recycled pid has another."""


class LocalEndpoint(StoredEndpoint[Server]):
    """The server of one model name, whose files lie in ``folder``; a recycled pid is never mistaken for it."""

    SERVER: ClassVar[type[Listening]] = Server

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.log = folder / "server.log"

    @property
    def log_hint(self) -> str:
        """Where people find its log."""
        return str(self.log)

    def log_lines(self) -> list[str]:
        """Its log."""
        try:
            return self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []

    def _lives(self, server: Server) -> bool:
        return self._process(server) is not None

    def _replace(
        self, before: Server | None, served: HostedModel, host: str, smoke_images: Sequence[bytes], timeout: float
    ) -> Server:
        alive = self._clear_way(before)
        last_port = before.port if before and not alive else 0
        self._write_smoke(smoke_images)
        with _listen(host, served.serving.port, last_port) as listener:
            server = self._spawn(served, host, listener)
        try:
            self._await_ready(server, timeout)
        except DeploymentError:
            self._end(server, GRACE_SECONDS, force=True)
            self._starting.unlink(missing_ok=True)
            raise
        if before and alive:
            self._end(before, GRACE_SECONDS)
        self._starting.replace(self._record)
        return server

    def _spawn(self, served: HostedModel, host: str, listener: socket.socket) -> Server:
        listening = ServerOptions(fd=listener.fileno(), log_file=self.log)
        command = [sys.executable, "-m", SERVER_MODULE, *listening.to_arguments()]
        command += self._arguments(served, cache=self._cache, smoke=self._smoke, predictions=self.predictions)
        # A detached server inherits what it needs and no other credentials of the run that started it.
        environment = {k: v for k, v in os.environ.items() if k in _INHERITED} | store_variables(served.serving)
        environment |= {ADMIN_KEY_VARIABLE: self.admin_key(), "PYTHONPATH": str(_ROOT)}
        with (self.folder / "server.err").open("wb") as errors:
            process = subprocess.Popen(  # noqa: S603 - our own module
                command,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                cwd=self.folder,
                env=environment,
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )
        _children[process.pid] = process
        host, port = listener.getsockname()[:2]
        started = psutil.Process(process.pid).create_time()
        server = Server(pid=process.pid, started=started, host=host, port=port, served=served)
        self._write(self._starting, server)
        return server

    def _await_ready(self, server: Server, timeout: float) -> None:
        """It answers the smoke images before it is."""
        who = server.served.who
        try:
            # The socket listens already: the request waits in its queue until the server takes it, or ends.
            ready = http("GET", f"{server.url}/ready", timeout=timeout, headers=self._headers())
        except requests.RequestException as error:
            raise DeploymentError(
                f"{who}: the server does not answer ({self._last_words(server)}); see {self.log}"
            ) from error
        if not ready.ok:
            raise DeploymentError(f"{who}: is not ready: {reason(ready)}; see {self.log}")

    def _last_words(self, server: Server) -> str:
        if child := _children.get(server.pid):
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_LAST_WORDS_SECONDS)  # it drops connections a moment before it has said why
        lines = (self.folder / "server.err").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if lines:
            return lines[-1].removeprefix("error: ")
        return "it is still starting" if self._process(server) else "its process ended"

    # Processes

    def _process(self, server: Server) -> psutil.Process | None:
        try:
            process = psutil.Process(server.pid)
            same = abs(process.create_time() - server.started) < _CLOCK_SLACK_SECONDS
            command = process.cmdline()
            # A process that is just ending has no command line any more, and still holds its port.
            ours = same and process.status() != psutil.STATUS_ZOMBIE and (not command or str(self.log) in command)
        except psutil.Error:
            return None
        return process if ours else None

    def _end(self, server: Server, timeout: float, *, force: bool = False) -> None:
        try:
            if (process := self._process(server)) and not force:
                process.terminate()
                self._await_end(server, timeout)
            if process := self._process(server):
                process.kill()
                self._await_end(server, GRACE_SECONDS)
        except psutil.NoSuchProcess:
            pass
        except psutil.Error as error:
            raise DeploymentError(f"{server.url}: process {server.pid} cannot be ended ({error})") from error
        if child := _children.pop(server.pid, None):
            child.wait(GRACE_SECONDS)

    def _await_end(self, server: Server, timeout: float) -> None:
        # Not psutil's wait: it takes the zombie of a parent that has not reaped it for a living process.
        deadline = time.monotonic() + timeout
        while self._process(server) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)


def _listen(host: str, port: int, last_port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Where any port will do, the one it had comes first: clients keep the address.
    for candidate in [port] if port else [last_port, 0]:
        try:
            return socket.create_server((host, candidate), family=family, backlog=_BACKLOG)
        except OSError as error:
            if candidate == port:
                why = str(error.strerror).partition(" (while")[0]
                raise port_taken(host, port, why) from error
    raise AssertionError("port 0 is tried last")
