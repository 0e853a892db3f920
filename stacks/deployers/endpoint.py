"""A prediction server as a process of this machine: started, switched, stopped, found again.

    <folder>/endpoint.json     the server that answers: process, address, model
    <folder>/starting.json     one that was started and has not answered yet (left behind by a killed deployment)
    <folder>/smoke/            images that it must answer first
    <folder>/admin.key         opens its /reload; readable by the owner only
    <folder>/server.log        its log, JSON lines, rotated; server.err: what it printed besides
    <folder>/cache/            what its engine compiled of them, a folder for each digest
    <folder>/bundles/          what it serves and what it served before, copied: the artifact store may go away

Knows nothing of ZenML.
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import requests
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from visionops.config import ServingConfig
from visionops.errors import DeploymentError
from visionops.inference.bundle import ModelBundle

__all__ = ["LocalEndpoint", "Served", "Server"]

_ROOT = Path(__file__).resolve().parents[2]
_MODULE = "deploy.serving"
_KEY_VARIABLE = "VISIONOPS_ADMIN_KEY"
_KEPT_BUNDLES = 2
_GRACE_SECONDS = 15.0
_POLL_SECONDS = 0.02
_BACKLOG = 128
_CLOCK_SLACK_SECONDS = 2.0
_LAST_WORDS_SECONDS = 5.0

_children: dict[int, subprocess.Popen[bytes]] = {}
"""Servers started by this process: kept, because a forgotten child cannot be reaped."""


class Served(BaseModel):
    """What a server is told to serve."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: Path
    digest: str
    name: str
    version: str
    alias: str
    serving: ServingConfig


class Server(BaseModel):
    """A server process and what it serves; `endpoint.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int
    started: float
    """Start time of the process: a recycled pid has another."""
    host: str
    port: int
    served: Served
    stopped: bool = False
    """On purpose."""

    @property
    def url(self) -> str:
        """Where this machine reaches it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


class LocalEndpoint:
    """The server of one model name, whose files lie in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "server.log"
        self.predictions = folder.parent.parent / "prediction-log" / folder.name  # it outlives the endpoint
        self._record = folder / "endpoint.json"
        self._starting = folder / "starting.json"
        self._cache = folder / "cache"
        self._smoke = folder / "smoke"

    # What is

    @property
    def server(self) -> Server | None:
        """The server that was last known to answer; None: there was none."""
        return _read(self._record)

    @property
    def is_running(self) -> bool:
        """Whether its process lives; it is never mistaken for another one with the same pid."""
        server = self.server
        return server is not None and self._process(server) is not None

    def is_ready(self, timeout: float = 5.0) -> bool:
        """Whether it answers."""
        server = self.server
        if server is None or self._process(server) is None:
            return False
        try:
            return _http("GET", f"{server.url}/ready", timeout=timeout, headers=self._headers()).ok
        except requests.RequestException:
            return False

    # What changes

    def deploy(
        self,
        bundle_folder: Path,
        *,
        name: str,
        version: str,
        alias: str,
        serving: ServingConfig,
        smoke_images: Sequence[bytes] = (),
        host: str = "127.0.0.1",
        timeout: float = 120.0,
    ) -> Server:
        """Serve a bundle; a running server is switched without a failed request.

        Raises:
            BundleError: The bundle is corrupt.
            DeploymentError: The new model does not start or does not answer; what served before still serves.
        """
        with self._exclusive(timeout):
            before = self.server
            served = self._store(bundle_folder, name, version, alias, serving)
            if before and self._process(before) and before.host == host and serving.port in {0, before.port}:
                server = self._switch(before, served, smoke_images, timeout)
            else:
                server = self._replace(before, served, host, smoke_images, timeout)
            self._prune(served.bundle)
            return server

    def start(self, timeout: float = 120.0) -> Server:
        """Start the stopped or dead server again, with what it served.

        Raises:
            DeploymentError: Nothing was ever deployed here, or it does not start.
        """
        with self._exclusive(timeout):
            before = self.server
            if before is None:
                raise DeploymentError(f"{self.folder}: nothing was deployed here; run the deployment pipeline")
            if self._process(before):
                return before
            return self._replace(before, before.served, before.host, (), timeout)

    def stop(self, timeout: float = _GRACE_SECONDS, *, force: bool = False) -> None:
        """End the server; its files stay, so that `start` can bring it back.

        Args:
            timeout: Seconds for it to finish what it is answering, before it is killed.
            force: Kill it at once.
        """
        with self._exclusive(timeout + _GRACE_SECONDS):
            self._stop_all(timeout, force=force)

    def delete(self, timeout: float = _GRACE_SECONDS, *, force: bool = False) -> None:
        """End the server and remove its files."""
        with self._exclusive(timeout + _GRACE_SECONDS):
            self._stop_all(timeout, force=force)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _stop_all(self, timeout: float, *, force: bool) -> None:
        for path in (self._starting, self._record):
            if server := _read(path):
                self._end(server, timeout, force=force)
        self._starting.unlink(missing_ok=True)
        if server := self.server:
            self._write(self._record, server.model_copy(update={"stopped": True}))

    def _switch(self, before: Server, served: Served, smoke_images: Sequence[bytes], timeout: float) -> Server:
        who = f"{served.name} version {served.version}"
        order = _order(served) | {"smoke": [base64.b64encode(image).decode() for image in smoke_images]}
        try:
            answer = _http("POST", f"{before.url}/reload", timeout=timeout, json=order, headers=self._headers())
        except requests.ConnectionError:
            return self._replace(before, served, before.host, smoke_images, timeout)
        except requests.RequestException as error:
            raise DeploymentError(
                f"{who}: {before.url} did not answer in {timeout:.0f} s; see {self.log}, then "
                "`zenml model-deployer models stop` and deploy again"
            ) from error
        if not answer.ok:
            raise DeploymentError(f"{who}: refused, {_before(before)} still answers: {_reason(answer)}")
        server = before.model_copy(update={"served": served})
        self._write(self._record, server)
        return server

    def _replace(
        self, before: Server | None, served: Served, host: str, smoke_images: Sequence[bytes], timeout: float
    ) -> Server:
        """Start a new process, and end the one before only when the new one answers."""
        if stray := _read(self._starting):
            self._end(stray, _GRACE_SECONDS)
        alive = before is not None and self._process(before) is not None
        if before and not (alive and self._answers(before)):
            self._end(before, _GRACE_SECONDS)  # it ended by itself, or lives and only holds the port
            alive = False
        last_port = before.port if before and not alive else 0
        self._write_smoke(smoke_images)
        with _listen(host, served.serving.port, last_port) as listener:
            server = self._spawn(served, host, listener)
        try:
            self._await_ready(server, timeout)
        except DeploymentError:
            self._end(server, _GRACE_SECONDS, force=True)
            self._starting.unlink(missing_ok=True)
            raise
        if before and alive:
            self._end(before, _GRACE_SECONDS)
        self._starting.replace(self._record)
        return server

    def _spawn(self, served: Served, host: str, listener: socket.socket) -> Server:
        order = {key: value for key, value in _order(served).items() if value not in (None, "")}
        arguments = [part for key, value in order.items() for part in ("--" + key.replace("_", "-"), str(value))]
        command = [sys.executable, "-m", _MODULE, "--fd", str(listener.fileno()), "--log-file", str(self.log)]
        command += ["--cache", str(self._cache), "--smoke-images", str(self._smoke)]
        if served.serving.prediction_log:
            command += ["--prediction-log", str(self.predictions)]
            command += ["--prediction-log-images", str(served.serving.prediction_log_images)]
        store = served.serving.prediction_log_store if served.serving.prediction_log else None
        if store:
            command += ["--prediction-log-store", store]
        # A detached server inherits what it needs and no other credentials of the run that started it.
        needed = _STORE_PREFIXES[store.partition(":")[0]] if store else ()
        environment = {k: v for k, v in os.environ.items() if k in _INHERITED or k.startswith(needed)}
        environment |= {_KEY_VARIABLE: self.admin_key(), "PYTHONPATH": str(_ROOT)}
        with (self.folder / "server.err").open("wb") as errors:
            process = subprocess.Popen(  # noqa: S603 - our own module
                command + arguments,
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

    def _write_smoke(self, images: Sequence[bytes]) -> None:
        # Not asked through /predict: they are no traffic, and monitoring looks at what is.
        shutil.rmtree(self._smoke, ignore_errors=True)
        self._smoke.mkdir()
        for number, image in enumerate(images):
            (self._smoke / f"{number:04d}").write_bytes(image)

    def _await_ready(self, server: Server, timeout: float) -> None:
        """It answers the smoke images before it is."""
        who = f"{server.served.name} version {server.served.version}"
        try:
            # The socket listens already: the request waits in its queue until the server takes it, or ends.
            ready = _http("GET", f"{server.url}/ready", timeout=timeout, headers=self._headers())
        except requests.RequestException as error:
            raise DeploymentError(
                f"{who}: the server does not answer ({self._last_words(server)}); see {self.log}"
            ) from error
        if not ready.ok:
            raise DeploymentError(f"{who}: is not ready: {_reason(ready)}; see {self.log}")

    def _last_words(self, server: Server) -> str:
        if child := _children.get(server.pid):
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_LAST_WORDS_SECONDS)  # it drops connections a moment before it has said why
        lines = (self.folder / "server.err").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if lines:
            return lines[-1].removeprefix("error: ")
        return "it is still starting" if self._process(server) else "its process ended"

    def _answers(self, server: Server) -> bool:
        try:
            return _http("GET", f"{server.url}/health", timeout=10.0).ok
        except requests.RequestException:
            return False

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
                self._await_end(server, _GRACE_SECONDS)
        except psutil.NoSuchProcess:
            pass
        except psutil.Error as error:
            raise DeploymentError(f"{server.url}: process {server.pid} cannot be ended ({error})") from error
        if child := _children.pop(server.pid, None):
            child.wait(_GRACE_SECONDS)

    def _await_end(self, server: Server, timeout: float) -> None:
        # Not psutil's wait: it takes the zombie of a parent that has not reaped it for a living process.
        deadline = time.monotonic() + timeout
        while self._process(server) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    # Files

    @contextmanager
    def _exclusive(self, timeout: float) -> Iterator[None]:
        """One change at a time; the kernel frees the lock when its holder dies."""
        locks = self.folder.parent / ".locks"
        try:
            locks.mkdir(parents=True, exist_ok=True)
            with FileLock(locks / f"{self.folder.name}.lock", timeout=timeout):
                self.folder.mkdir(mode=0o700, exist_ok=True)
                yield
        except Timeout as error:
            raise DeploymentError(
                f"{self.folder.name}: another deployment has been at work for {timeout:.0f} s; wait for it or end it"
            ) from error
        except OSError as error:
            raise DeploymentError(
                f"{error.filename or self.folder}: {error.strerror}; free it or make it writable"
            ) from error

    def _headers(self) -> dict[str, str]:
        return {"X-API-Key": self.admin_key()}

    def admin_key(self) -> str:
        """Opens its server; made when there is none yet."""
        path = self.folder / "admin.key"
        try:
            with open(path, "x", encoding="ascii", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(secrets.token_urlsafe(32))
        except FileExistsError:
            pass
        return path.read_text(encoding="ascii")

    def _store(self, source: Path, name: str, version: str, alias: str, serving: ServingConfig) -> Served:
        bundle = ModelBundle.load(source)
        target = self.folder / "bundles" / f"{version}-{bundle.digest[:12]}"
        if not _holds(target, bundle.digest):
            target.parent.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".copy-") as work:
                copy = Path(work) / "bundle"
                copy.mkdir()
                for file in ("bundle.json", *bundle.card.files):
                    shutil.copyfile(source / file, copy / file)
                ModelBundle.load(copy)
                shutil.rmtree(target, ignore_errors=True)
                copy.rename(target)
        os.utime(target)
        return Served(bundle=target, digest=bundle.digest, name=name, version=version, alias=alias, serving=serving)

    def _prune(self, current: Path) -> None:
        others = [path for path in current.parent.iterdir() if path != current and not path.name.startswith(".")]
        for path in sorted(others, key=lambda path: path.stat().st_mtime_ns, reverse=True)[_KEPT_BUNDLES - 1 :]:
            shutil.rmtree(path, ignore_errors=True)
        kept = {path.name.rpartition("-")[2] for path in current.parent.iterdir()}
        for path in self._cache.iterdir() if self._cache.is_dir() else ():
            if path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)

    def _write(self, path: Path, server: Server) -> None:
        draft = path.with_suffix(".tmp")
        draft.write_text(server.model_dump_json(indent=1), encoding="utf-8")
        draft.replace(path)


_INHERITED = {"PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "TZ", "OMP_NUM_THREADS"}
_STORE_PREFIXES = {"s3": ("AWS_",), "postgresql": ("PG",), "postgres": ("PG",)}
"""Of the variables that a store of the prediction log needs: its credentials are for the server, too."""


def _order(served: Served) -> dict[str, Any]:
    """The model, as /reload and the command line of the server take it."""
    return {
        "bundle": str(served.bundle),
        "name": served.name,
        "version": served.version,
        "alias": served.alias,
        **served.serving.model_dump(mode="json", include={"engine", "confidence", "iou", "max_upload_bytes"}),
    }


def _read(path: Path) -> Server | None:
    try:
        return Server.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _holds(folder: Path, digest: str) -> bool:
    from visionops.errors import BundleError

    try:
        return ModelBundle.load(folder).digest == digest
    except BundleError:
        return False


def _listen(host: str, port: int, last_port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Where any port will do, the one it had comes first: clients keep the address.
    for candidate in [port] if port else [last_port, 0]:
        try:
            return socket.create_server((host, candidate), family=family, backlog=_BACKLOG)
        except OSError as error:
            if candidate == port:
                reason = str(error.strerror).partition(" (while")[0]
                raise DeploymentError(
                    f"{host}:{port}: cannot listen ({reason}); end what uses the port, "
                    "or set serving.port to another, or to 0 for any free one"
                ) from error
    raise AssertionError("port 0 is tried last")


def _http(method: str, url: str, *, timeout: float, **more: Any) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False  # a proxy of the environment is not for our own machine
        return session.request(method, url, timeout=timeout, **more)


def _reason(answer: requests.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"


def _before(server: Server) -> str:
    return f"version {server.served.version}"
