"""Start, switch, stop and find a prediction server that runs as a process on this machine.

Its folder has the files of `stacks.deployers.host_endpoint` and two more: server.log, its log as JSON lines, rotated;
and server.err, its other output.

This module does not use ZenML.
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
    reason,
    store_variables,
)
from stacks.deployers.ports import open_listener, ports_to_try
from visionops.errors import DeploymentError
from visionops.inference.server_options import ADMIN_KEY_VARIABLE, SERVER_MODULE, ServerOptions

__all__ = ["HostedModel", "LocalEndpoint", "Server"]

_ROOT = Path(__file__).resolve().parents[2]
_POLL_SECONDS = 0.02
_CLOCK_SLACK_SECONDS = 2.0
_LAST_WORDS_SECONDS = 5.0
_INHERITED = {"PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "TZ", "OMP_NUM_THREADS"}

_children: dict[int, subprocess.Popen[bytes]] = {}
"""Servers started by this process, kept so that they can be reaped."""


class Server(Listening):
    """A server process and the model that it serves."""

    pid: int
    started: float
    """Start time of the process, which tells it from another process with a recycled pid."""


class LocalEndpoint(StoredEndpoint[Server]):
    """The server of one model name, whose files lie in ``folder``; a recycled pid is never mistaken for it."""

    SERVER: ClassVar[type[Listening]] = Server

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.log = folder / "server.log"

    @property
    def log_hint(self) -> str:
        """Return the place of the log, for messages."""
        return str(self.log)

    def log_lines(self) -> list[str]:
        """Return the lines of the log."""
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
        ports = ports_to_try(served.serving.port, before.port if before and not alive else 0)
        self._write_smoke(smoke_images)
        with _listen(host, ports) as listener:
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
        # A detached server must not inherit credentials of the run that it does not need.
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
        """Wait until the server has answered the smoke images."""
        who = server.served.who
        try:
            # The socket already listens: the request waits in its queue until the server accepts it or exits.
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
                child.wait(_LAST_WORDS_SECONDS)  # it drops connections shortly before it logs the reason
        lines = (self.folder / "server.err").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if lines:
            return lines[-1].removeprefix("error: ")
        return "it is still starting" if self._process(server) else "its process exited"

    # Processes

    def _process(self, server: Server) -> psutil.Process | None:
        try:
            process = psutil.Process(server.pid)
            same = abs(process.create_time() - server.started) < _CLOCK_SLACK_SECONDS
            command = process.cmdline()
            # A process that is exiting has no command line any more, but still holds its port.
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
            raise DeploymentError(f"{server.url}: process {server.pid} cannot be stopped ({error})") from error
        if child := _children.pop(server.pid, None):
            child.wait(GRACE_SECONDS)

    def _await_end(self, server: Server, timeout: float) -> None:
        # psutil's wait counts a zombie, whose parent has not reaped it, as running.
        deadline = time.monotonic() + timeout
        while self._process(server) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)


def _listen(host: str, ports: Sequence[int]) -> socket.socket:
    for port in ports[:-1]:
        with contextlib.suppress(DeploymentError):
            return open_listener(host, port)
    return open_listener(host, ports[-1])
