"""An endpoint whose files lie in a folder of this machine, whatever runs the server: a process, a container.

    <folder>/endpoint.json     the server that answers: address, model
    <folder>/starting.json     one that was started and has not answered yet (left behind by a killed deployment)
    <folder>/smoke/            images that it must answer first
    <folder>/admin.key         opens its /reload; readable by the owner only
    <folder>/cache/            what its engine compiled of them, a folder for each digest
    <folder>/bundles/          what it serves and what it served before, copied: the artifact store may go away

Knows nothing of ZenML.
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

from stacks.deployers.trying import CANDIDATE_ALIAS, candidate_order, refused
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
    "port_taken",
    "reason",
    "store_variables",
]

GRACE_SECONDS = 15.0
"""For a server to finish what it is answering."""
_KEPT_BUNDLES = 2
_HOLD = "release.json"
"""In the cache: what the server counted of a release."""
_STORE_PREFIXES = {"s3": ("AWS_",), "postgresql": ("PG",), "postgres": ("PG",)}


class HostedCandidate(BaseModel):
    """What a server is told to try beside it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: Path
    digest: str
    version: str


class HostedModel(BaseModel):
    """What a server is told to serve."""

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
        """In words."""
        return f"{self.name} version {self.version}"


class Listening(BaseModel):
    """A server, where it listens and what it serves; `endpoint.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str
    port: int
    served: HostedModel
    stopped: bool = False
    """On purpose."""

    @property
    def url(self) -> str:
        """Where this machine reaches it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


_ServerT = TypeVar("_ServerT", bound=Listening)


class StoredEndpoint(ABC, Generic[_ServerT]):
    """The server of one model name, whose files lie in ``folder``."""

    SERVER: ClassVar[type[Listening]]
    ASKS_FOR_KEY: ClassVar[bool] = False
    """Whether predictions need a key, too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.predictions = folder.parent.parent / "prediction-log" / folder.name  # it outlives the endpoint
        self.key_path = folder / "admin.key"
        self._record = folder / "endpoint.json"
        self._starting = folder / "starting.json"
        self._cache = folder / "cache"
        self._smoke = folder / "smoke"

    # What differs

    @property
    @abstractmethod
    def log_hint(self) -> str:
        """Where people find its log."""

    @abstractmethod
    def log_lines(self) -> list[str]:
        """Its log."""

    @abstractmethod
    def _lives(self, server: _ServerT) -> bool: ...

    @abstractmethod
    def _end(self, server: _ServerT, timeout: float, *, force: bool = False) -> None: ...

    @abstractmethod
    def _replace(
        self, before: _ServerT | None, served: HostedModel, host: str, smoke_images: Sequence[bytes], timeout: float
    ) -> _ServerT:
        """Start a new server, and end the one before only when the new one answers."""

    def _fits(self, before: _ServerT, served: HostedModel, host: str) -> bool:
        """Whether the server that runs can be told to serve it."""
        return before.host == host and served.serving.port in {0, before.port}

    def _seen_by_server(self, bundle: Path) -> Path:
        return bundle

    # What is

    @property
    def server(self) -> _ServerT | None:
        """The server that was last known to answer; None: there was none."""
        return self._read(self._record)

    @property
    def is_running(self) -> bool:
        """Whether it lives."""
        server = self.server
        return server is not None and self._lives(server)

    def is_ready(self, timeout: float = 5.0) -> bool:
        """Whether it answers."""
        server = self.server
        if server is None or not self._lives(server):
            return False
        try:
            return http("GET", f"{server.url}/ready", timeout=timeout, headers=self._headers()).ok
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
        candidate: Candidate | None = None,
        host: str = "127.0.0.1",
        timeout: float = 120.0,
    ) -> _ServerT:
        """Serve a bundle; a running server is switched without a failed request.

        Args:
            candidate: Tried beside it as ``serving.release`` says; the same again goes on with its hold.

        Raises:
            BundleError: A bundle is corrupt.
            DeploymentError: The new model does not start or does not answer; what served before still serves. Or the
                candidate does not, and the champion answers all.
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
                server = self._drop_candidate(before, timeout)  # first: its traffic goes back at once
                if not (wanted.candidate and server.served == alone):
                    server = self._switch(server, alone, smoke_images, timeout)
                server = self._try_candidate(server, wanted, smoke_images, timeout)
            else:
                if before is None or before.served != wanted:
                    (self._cache / _HOLD).unlink(missing_ok=True)  # what was counted was of other models
                server = self._replace(before, wanted, host, smoke_images, timeout)
                self._check_candidate(server)
            self._prune(served.bundle)
            return server

    def release_report(self, timeout: float = 10.0) -> ReleaseReport:
        """What the server says of the candidate beside its champion.

        Raises:
            DeploymentError: It does not run, or does not answer.
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
            raise DeploymentError(f"{server.url}: says nothing of a release: {reason(answer)}")
        return ReleaseReport.model_validate_json(answer.content)

    def start(self, timeout: float = 120.0) -> _ServerT:
        """Start the stopped or dead server again, with what it served.

        Raises:
            DeploymentError: Nothing was ever deployed here, or it does not start.
        """
        with self._exclusive(timeout):
            before = self.server
            if before is None:
                raise DeploymentError(f"{self.folder}: nothing was deployed here; run the deployment pipeline")
            if self._lives(before):
                return before
            return self._replace(before, before.served, before.host, (), timeout)

    def stop(self, timeout: float = GRACE_SECONDS, *, force: bool = False) -> None:
        """End the server; its files stay, so that `start` can bring it back.

        Args:
            timeout: Seconds for it to finish what it is answering, before it is killed.
            force: Kill it at once.
        """
        with self._exclusive(timeout + GRACE_SECONDS):
            self._stop_all(timeout, force=force)

    def delete(self, timeout: float = GRACE_SECONDS, *, force: bool = False) -> None:
        """End the server and remove its files."""
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
        """Take away what is tried beside the champion, if anything is."""
        if server.served.candidate is None:
            return server
        for role in ("canary", "shadow"):  # there may be none any more, where the server sent it away
            self._order(server, "unload", {"name": server.served.name, "role": role}, timeout)
        return self._note(server, server.served.model_copy(update={"candidate": None}))

    def _try_candidate(
        self, server: _ServerT, wanted: HostedModel, smoke_images: Sequence[bytes], timeout: float
    ) -> _ServerT:
        """Put the candidate of ``wanted``, if it has one, beside the champion that answers."""
        if wanted.candidate is None:
            return server
        order = candidate_order(self._candidate(wanted), wanted.serving.release, smoke_images)
        answer = self._order(server, "reload", order, timeout)
        if not answer.ok:
            raise DeploymentError(refused(wanted.name, wanted.candidate.version, wanted.version, reason(answer)))
        return self._note(server, wanted)

    def _note(self, server: _ServerT, served: HostedModel) -> _ServerT:
        server = server.model_copy(update={"served": served})
        self._write(self._record, server)
        return server

    def _candidate(self, served: HostedModel) -> ModelRef:
        """The candidate, with its bundle where the server sees it."""
        assert served.candidate is not None
        change = {"bundle": served.candidate.bundle, "version": served.candidate.version, "alias": CANDIDATE_ALIAS}
        return self._model(served.model_copy(update=change))

    def _check_candidate(self, server: _ServerT) -> None:
        """See that a server that has just started with a candidate tries it, or has sent it away before.

        Raises:
            DeploymentError: It could not load it; it answers with its champion alone.
        """
        served = server.served
        if served.candidate is None:
            return
        report = self.release_report()
        if report.problem:
            self._note(server, served.model_copy(update={"candidate": None}))
            raise DeploymentError(refused(served.name, served.candidate.version, served.version, report.problem))

    def _order(self, server: _ServerT, what: str, order: dict[str, Any], timeout: float) -> requests.Response:
        try:
            return http("POST", f"{server.url}/{what}", timeout=timeout, json=order, headers=self._headers())
        except requests.RequestException as error:
            raise DeploymentError(
                f"{server.url}: did not answer to /{what} ({type(error).__name__}); see {self.log_hint}"
            ) from error

    def _clear_way(self, before: _ServerT | None) -> bool:
        """End what a killed deployment left, and ``before`` unless it answers.

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
        self._end(before, GRACE_SECONDS)  # it ended by itself, or lives and only holds the port
        return False

    def _model(self, served: HostedModel) -> ModelRef:
        """The model, with its bundle where the server sees it: what /reload takes."""
        bundle = self._seen_by_server(served.bundle)
        return ModelRef.from_serving(
            served.serving, bundle=bundle, name=served.name, version=served.version, alias=served.alias
        )

    def _arguments(self, served: HostedModel, *, cache: Path, smoke: Path, predictions: Path) -> list[str]:
        """The command line of the server, with paths as it sees them."""
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
        # Not asked through /predict: they are no traffic, and monitoring looks at what is.
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
    """Of the environment, what the prediction log's store needs: its credentials are for the server, too."""
    store = serving.prediction_log_store if serving.prediction_log else None
    needed = _STORE_PREFIXES[store.partition(":")[0]] if store else ()
    return {key: value for key, value in os.environ.items() if key.startswith(needed)} if needed else {}


def http(method: str, url: str, *, timeout: float, **more: Any) -> requests.Response:
    """A request to our own machine, for which a proxy of the environment is not."""
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, url, timeout=timeout, **more)


def reason(answer: requests.Response) -> str:
    """Why the server refused."""
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"


def port_taken(host: str, port: int, why: str) -> DeploymentError:
    """The error of a port in use, with the mend."""
    return DeploymentError(
        f"{host}:{port}: cannot listen ({why}); end what uses the port, "
        "or set serving.port to another, or to 0 for any free one"
    )


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
