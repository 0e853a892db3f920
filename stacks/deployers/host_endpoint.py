"""Manage an endpoint whose files are in a folder on this machine, for servers in a process or a container.

    <folder>/endpoint.json     the server that answers: address, model
    <folder>/starting.json     a server that was started but has not answered yet (left by a killed deployment)
    <folder>/smoke/            images that the server must answer first
    <folder>/admin.key         key for /reload; readable by the owner only
    <folder>/cache/            compiled models, a folder for each digest
    <folder>/bundles/          copies of the current and the previous bundle, since the artifact store may go away

This module does not use ZenML.
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import requests
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from stacks.deployers.trying import CANDIDATE_ALIAS, candidate_order, rejection
from visionops.endpoint import Candidate
from visionops.errors import BundleError, DeploymentError
from visionops.inference.bundle import ModelBundle
from visionops.inference.release_report import ReleaseReport
from visionops.inference.server_options import ModelRef, ServerOptions
from visionops.inference.settings import ServingConfig

__all__ = [
    "GRACE_SECONDS",
    "HostedCandidate",
    "HostedModel",
    "Listening",
    "StoredEndpoint",
    "http",
    "reason",
    "store_variables",
]

GRACE_SECONDS = 15.0
"""Seconds for a server to finish its open requests."""
_KEPT_BUNDLES = 2
_HOLD = "release.json"
"""File in the cache with the server's counts for a release."""
_STORE_PREFIXES = {"s3": ("AWS_",), "postgresql": ("PG",), "postgres": ("PG",)}


class HostedCandidate(BaseModel):
    """Model that a server tries next to its champion, as canary or shadow."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: Path
    digest: str
    version: str


class HostedModel(BaseModel):
    """Model that a server serves, with its settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: Path
    digest: str
    name: str
    version: str
    alias: str
    serving: ServingConfig
    candidate: HostedCandidate | None = None

    @property
    def who(self) -> str:
        """Return the name and version, for messages."""
        return f"{self.name} version {self.version}"


class Listening(BaseModel):
    """Address and model of a server, stored in `endpoint.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str
    port: int
    served: HostedModel
    stopped: bool = False
    """Whether a user stopped the server."""

    @property
    def url(self) -> str:
        """URL of the server from this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


_ServerT = TypeVar("_ServerT", bound=Listening)


class StoredEndpoint(ABC, Generic[_ServerT]):
    """Server of one model name, with its files in ``folder``."""

    SERVER: ClassVar[type[Listening]]
    ASKS_FOR_KEY: ClassVar[bool] = False
    """Whether predictions also need a key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.predictions = folder.parent.parent / "prediction-log" / folder.name  # kept when the endpoint is removed
        self.key_path = folder / "admin.key"
        self._record = folder / "endpoint.json"
        self._starting = folder / "starting.json"
        self._cache = folder / "cache"
        self._smoke = folder / "smoke"

    # Implemented by subclasses

    @property
    @abstractmethod
    def log_hint(self) -> str:
        """Return the place of the log, for messages."""

    @abstractmethod
    def log_lines(self) -> list[str]:
        """Return the lines of the log."""

    @abstractmethod
    def _lives(self, server: _ServerT) -> bool: ...

    @abstractmethod
    def _end(self, server: _ServerT, timeout: float, *, force: bool = False) -> None: ...

    @abstractmethod
    def _replace(
        self, before: _ServerT | None, served: HostedModel, host: str, smoke_images: Sequence[bytes], timeout: float
    ) -> _ServerT:
        """Start a new server, and stop the previous one only when the new one answers."""

    def _fits(self, before: _ServerT, served: HostedModel, host: str) -> bool:
        """Return whether the running server can switch to a model without a restart."""
        return before.host == host and served.serving.port in {None, 0, before.port}

    def _seen_by_server(self, bundle: Path) -> Path:
        return bundle

    # State

    @property
    def server(self) -> _ServerT | None:
        """Return the server that answered last; None if there was none."""
        return self._read(self._record)

    @property
    def is_running(self) -> bool:
        """Return whether the server runs."""
        server = self.server
        return server is not None and self._lives(server)

    def is_ready(self, timeout: float = 5.0) -> bool:
        """Return whether the server answers."""
        server = self.server
        if server is None or not self._lives(server):
            return False
        try:
            return http("GET", f"{server.url}/ready", timeout=timeout, headers=self._headers()).ok
        except requests.RequestException:
            return False

    # Changes

    def deploy(
        self,
        bundle_folder: Path,
        *,
        name: str,
        version: str,
        alias: str,
        serving: ServingConfig,
        smoke_images: Sequence[bytes] = (),
        candidate: Candidate | None = None,
        host: str = "127.0.0.1",
        timeout: float = 120.0,
    ) -> _ServerT:
        """Serve a bundle; a running server is switched without a failed request.

        Args:
            candidate: Model to try as ``serving.release`` says; the same candidate again keeps its counts.

        Raises:
            BundleError: A bundle is corrupt.
            DeploymentError: The new model does not start or answer, and the previous one still serves. Or the candidate
                does not, and the champion answers all requests.
        """
        with self._exclusive(timeout):
            before = self.server
            served = self._store(bundle_folder, name, version, alias, serving)
            tried = self._store(candidate.bundle_folder, name, candidate.version, "", serving) if candidate else None
            alone, wanted = served, served
            if tried:
                beside = HostedCandidate(bundle=tried.bundle, digest=tried.digest, version=tried.version)
                wanted = served.model_copy(update={"candidate": beside})
            if before and self._lives(before) and self._fits(before, served, host):
                if before.served == wanted and wanted.candidate and self.is_ready():
                    return before
                server = self._drop_candidate(before, timeout)  # first: the champion gets its traffic back at once
                if not (wanted.candidate and server.served == alone):
                    server = self._switch(server, alone, smoke_images, timeout)
                server = self._try_candidate(server, wanted, smoke_images, timeout)
            else:
                if before is None or before.served != wanted:
                    (self._cache / _HOLD).unlink(missing_ok=True)  # the counts are for other models
                server = self._replace(before, wanted, host, smoke_images, timeout)
                self._check_candidate(server)
            self._prune(served.bundle)
            return server

    def release_report(self, timeout: float = 10.0) -> ReleaseReport:
        """Return the server's report on the candidate next to its champion.

        Raises:
            DeploymentError: The server does not run or answer.
        """
        server = self.server
        if server is None or not self._lives(server):
            raise DeploymentError(f"{self.folder.name}: no endpoint runs; run the deployment pipeline")
        try:
            answer = http("GET", f"{server.url}/release", timeout=timeout, headers=self._headers())
        except requests.RequestException as error:
            raise DeploymentError(
                f"{server.url}: does not answer ({type(error).__name__}); see {self.log_hint}"
            ) from error
        if not answer.ok:
            raise DeploymentError(f"{server.url}: no release report: {reason(answer)}")
        return ReleaseReport.model_validate_json(answer.content)

    def start(self, timeout: float = 120.0) -> _ServerT:
        """Start the stopped or crashed server again with its last model.

        Raises:
            DeploymentError: Nothing was ever deployed here, or the server does not start.
        """
        with self._exclusive(timeout):
            before = self.server
            if before is None:
                raise DeploymentError(f"{self.folder}: nothing was deployed here; run the deployment pipeline")
            if self._lives(before):
                return before
            return self._replace(before, before.served, before.host, (), timeout)

    def stop(self, timeout: float = GRACE_SECONDS, *, force: bool = False) -> None:
        """Stop the server; its files stay, so that `start` can start it again.

        Args:
            timeout: Seconds for it to finish open requests before it is killed.
            force: Kill it at once.
        """
        with self._exclusive(timeout + GRACE_SECONDS):
            self._stop_all(timeout, force=force)

    def delete(self, timeout: float = GRACE_SECONDS, *, force: bool = False) -> None:
        """Stop the server and remove its files."""
        with self._exclusive(timeout + GRACE_SECONDS):
            self._stop_all(timeout, force=force)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _stop_all(self, timeout: float, *, force: bool) -> None:
        for path in (self._starting, self._record):
            if server := self._read(path):
                self._end(server, timeout, force=force)
        self._starting.unlink(missing_ok=True)
        if server := self.server:
            self._write(self._record, server.model_copy(update={"stopped": True}))

    def _switch(self, before: _ServerT, served: HostedModel, smoke_images: Sequence[bytes], timeout: float) -> _ServerT:
        smoke = [base64.b64encode(image).decode() for image in smoke_images]
        order = self._model(served).model_dump(mode="json", exclude_unset=True) | {"smoke": smoke}
        try:
            answer = http("POST", f"{before.url}/reload", timeout=timeout, json=order, headers=self._headers())
        except requests.ConnectionError:
            return self._replace(before, served, before.host, smoke_images, timeout)
        except requests.RequestException as error:
            raise DeploymentError(
                f"{served.who}: {before.url} did not answer in {timeout:.0f} s; see {self.log_hint}, then "
                "`zenml model-deployer models stop` and deploy again"
            ) from error
        if not answer.ok:
            kept = f"version {before.served.version}"
            raise DeploymentError(f"{served.who}: refused, {kept} still answers: {reason(answer)}")
        server = before.model_copy(update={"served": served})
        self._write(self._record, server)
        return server

    def _drop_candidate(self, server: _ServerT, timeout: float) -> _ServerT:
        """Remove the candidate next to the champion, if there is one."""
        if server.served.candidate is None:
            return server
        for role in ("canary", "shadow"):  # the server may have removed it already
            self._order(server, "unload", {"name": server.served.name, "role": role}, timeout)
        return self._note(server, server.served.model_copy(update={"candidate": None}))

    def _try_candidate(
        self, server: _ServerT, wanted: HostedModel, smoke_images: Sequence[bytes], timeout: float
    ) -> _ServerT:
        """Add the candidate of ``wanted``, if any, next to the running champion."""
        if wanted.candidate is None:
            return server
        order = candidate_order(self._candidate(wanted), wanted.serving.release, smoke_images)
        answer = self._order(server, "reload", order, timeout)
        if not answer.ok:
            raise DeploymentError(rejection(wanted.name, wanted.candidate.version, wanted.version, reason(answer)))
        return self._note(server, wanted)

    def _note(self, server: _ServerT, served: HostedModel) -> _ServerT:
        server = server.model_copy(update={"served": served})
        self._write(self._record, server)
        return server

    def _candidate(self, served: HostedModel) -> ModelRef:
        """Return the candidate, with its bundle's path as the server sees it."""
        assert served.candidate is not None
        change = {"bundle": served.candidate.bundle, "version": served.candidate.version, "alias": CANDIDATE_ALIAS}
        return self._model(served.model_copy(update=change))

    def _check_candidate(self, server: _ServerT) -> None:
        """Check that a server just started with a candidate tries it, or has already removed it.

        Raises:
            DeploymentError: The server could not load it and answers with its champion alone.
        """
        served = server.served
        if served.candidate is None:
            return
        report = self.release_report()
        if report.problem:
            self._note(server, served.model_copy(update={"candidate": None}))
            raise DeploymentError(rejection(served.name, served.candidate.version, served.version, report.problem))

    def _order(self, server: _ServerT, what: str, order: dict[str, Any], timeout: float) -> requests.Response:
        try:
            return http("POST", f"{server.url}/{what}", timeout=timeout, json=order, headers=self._headers())
        except requests.RequestException as error:
            raise DeploymentError(
                f"{server.url}: did not answer to /{what} ({type(error).__name__}); see {self.log_hint}"
            ) from error

    def _clear_way(self, before: _ServerT | None) -> bool:
        """Stop the server that a killed deployment left, and ``before`` unless it answers.

        Returns:
            Whether ``before`` answers.
        """
        if stray := self._read(self._starting):
            self._end(stray, GRACE_SECONDS)
            self._starting.unlink(missing_ok=True)
        if before is None:
            return False
        if self._lives(before) and _answers(before):
            return True
        self._end(before, GRACE_SECONDS)  # it crashed, or it runs but only blocks the port
        return False

    def _model(self, served: HostedModel) -> ModelRef:
        """Return the model for /reload, with its bundle's path as the server sees it."""
        bundle = self._seen_by_server(served.bundle)
        return ModelRef.from_serving(
            served.serving, bundle=bundle, name=served.name, version=served.version, alias=served.alias
        )

    def _arguments(self, served: HostedModel, *, cache: Path, smoke: Path, predictions: Path) -> list[str]:
        """Return the command line of the server, with paths as it sees them."""
        options: dict[str, Any] = {"cache": cache, "smoke_images": smoke}
        if candidate := served.candidate:
            options |= {
                "candidate": self._seen_by_server(candidate.bundle),
                "candidate_version": candidate.version,
                "release": served.serving.release,
            }
        if served.serving.prediction_log:
            options |= {
                "prediction_log": predictions,
                "prediction_log_images": served.serving.prediction_log_images,
                "prediction_log_store": served.serving.prediction_log_store,
            }
        return ServerOptions.model_validate(self._model(served).model_dump(exclude_unset=True) | options).to_arguments()

    # Files

    @contextmanager
    def _exclusive(self, timeout: float) -> Iterator[None]:
        """Allow one change at a time; the kernel frees the lock when its holder dies."""
        locks = self.folder.parent / ".locks"
        try:
            locks.mkdir(parents=True, exist_ok=True)
            with FileLock(locks / f"{self.folder.name}.lock", timeout=timeout):
                self.folder.mkdir(mode=0o700, exist_ok=True)
                yield
        except Timeout as error:
            raise DeploymentError(
                f"{self.folder.name}: another deployment has been running for {timeout:.0f} s; wait for it or stop it"
            ) from error
        except OSError as error:
            raise DeploymentError(
                f"{error.filename or self.folder}: {error.strerror}; free it or make it writable"
            ) from error

    def _headers(self) -> dict[str, str]:
        return {"X-API-Key": self.admin_key()}

    def admin_key(self) -> str:
        """Return the server's admin key, and create a missing one."""
        path = self.key_path
        try:
            with open(path, "x", encoding="ascii", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(secrets.token_urlsafe(32))
        except FileExistsError:
            pass
        return path.read_text(encoding="ascii")

    def _store(self, source: Path, name: str, version: str, alias: str, serving: ServingConfig) -> HostedModel:
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
        return HostedModel(
            bundle=target, digest=bundle.digest, name=name, version=version, alias=alias, serving=serving
        )

    def _prune(self, current: Path) -> None:
        server = self.server
        tried = server.served.candidate if server else None
        kept_ones = {current, tried.bundle} if tried else {current}
        others = [p for p in current.parent.iterdir() if p not in kept_ones and not p.name.startswith(".")]
        for path in sorted(others, key=lambda path: path.stat().st_mtime_ns, reverse=True)[_KEPT_BUNDLES - 1 :]:
            shutil.rmtree(path, ignore_errors=True)
        kept = {path.name.rpartition("-")[2] for path in current.parent.iterdir()}
        for path in self._cache.iterdir() if self._cache.is_dir() else ():
            if path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)

    def _write_smoke(self, images: Sequence[bytes]) -> None:
        # Not sent to /predict, because monitoring must not count them as traffic.
        shutil.rmtree(self._smoke, ignore_errors=True)
        self._smoke.mkdir()
        for number, image in enumerate(images):
            (self._smoke / f"{number:04d}").write_bytes(image)

    def _read(self, path: Path) -> _ServerT | None:
        try:
            return self.SERVER.model_validate_json(path.read_bytes())  # type: ignore[return-value]
        except (FileNotFoundError, ValidationError):
            return None

    def _write(self, path: Path, server: _ServerT) -> None:
        draft = path.with_suffix(".tmp")
        draft.write_text(server.model_dump_json(indent=1), encoding="utf-8")
        draft.replace(path)


def store_variables(serving: ServingConfig) -> dict[str, str]:
    """Return the environment variables with credentials for the prediction log's store, which the server needs."""
    store = serving.prediction_log_store if serving.prediction_log else None
    needed = _STORE_PREFIXES[store.partition(":")[0]] if store else ()
    return {key: value for key, value in os.environ.items() if key.startswith(needed)} if needed else {}


def http(method: str, url: str, *, timeout: float, **more: Any) -> requests.Response:
    """Send a request to this machine, ignoring the environment's proxy."""
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, url, timeout=timeout, **more)


def reason(answer: requests.Response) -> str:
    """Return the server's reason for a refusal."""
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"


def _answers(server: Listening) -> bool:
    try:
        return http("GET", f"{server.url}/health", timeout=10.0).ok
    except requests.RequestException:
        return False


def _holds(folder: Path, digest: str) -> bool:
    try:
        return ModelBundle.load(folder).digest == digest
    except BundleError:
        return False
