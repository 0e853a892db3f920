"""Start, switch, stop and find a prediction server that runs in a container on this machine.

Its folder has the files of `stacks.deployers.host_endpoint` and two more. keys/api.keys has digests of the API keys;
you may add lines, which are read within a second. container.env has the credentials of the prediction log's store, if
it has one.

A new model goes into the running container by /reload, without a failed request. A new container is started only
where the image or a limit changed: beside the old one, which ends when the new one answers. It then has another
port, unless the port is given: that one is free only once the old container has ended, so requests fail from then
until the new one has started there (it has been tried on another port before).

Knows nothing of ZenML.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar

import requests
from pydantic import BaseModel, ConfigDict, Field

from stacks.deployers.engines import ContainerEngine, PortTaken, find_engine
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
from visionops.inference.settings import ServingConfig
from visionops.options import variable

__all__ = ["Container", "ContainerEndpoint", "ContainerSettings"]

_IMAGE_UID = 10001
"""Whom deploy/images/serving/Dockerfile runs as."""
_PORT = 8000
_BUNDLES, _SMOKE, _CACHE = PurePosixPath("/bundles"), PurePosixPath("/smoke"), PurePosixPath("/cache")
_KEYS, _PREDICTIONS = PurePosixPath("/keys"), PurePosixPath("/predictions")
_POLL_SECONDS = 0.05
_LOG_BYTES = "10m"


class ContainerSettings(BaseModel):
    """What a container is made of, and what it may use."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    engine: str = Field(default="auto", pattern="^(auto|podman|docker)$")
    """podman, docker, or auto: the first of them that has the image."""
    image: str = Field(default="localhost/visionops-serving:latest", min_length=1)
    """As `make images` names it."""
    memory: str = Field(default="2g", pattern=r"^[1-9][0-9]*[bkmg]$")
    """Most it may use, as the engine writes it; beyond it the container is killed."""
    cpus: float = Field(default=0, ge=0, le=1024)
    """Most it may use; 0: all."""


class Container(Listening):
    """A container and what it serves."""

    container: str
    """Its id."""
    label: str
    """Its name."""
    engine: str
    image_id: str
    settings: ContainerSettings


class ContainerEndpoint(StoredEndpoint[Container]):
    """The container of one model name, whose files lie in ``folder``.

    Args:
        settings: For `deploy`; absent: those of the container that was deployed last.
    """

    SERVER: ClassVar[type[Listening]] = Container
    ASKS_FOR_KEY: ClassVar[bool] = True

    def __init__(self, folder: Path, settings: ContainerSettings | None = None) -> None:
        super().__init__(folder)
        self._settings = settings
        # Not the folder of a process of the same name: two servers' traffic is not one server's.
        self.predictions = folder.parent.parent / f"{folder.parent.name}-prediction-log" / folder.name
        self._keys = folder / "keys"
        self._environment = folder / "container.env"

    @property
    def log_hint(self) -> str:
        """The command that shows its log."""
        server = self.server
        return f"`{server.engine} logs {server.label}`" if server else "its log"

    def log_lines(self) -> list[str]:
        """Its log."""
        server = self.server
        return ContainerEngine(server.engine).log_lines(server.container) if server else []

    def _lives(self, server: Container) -> bool:
        state = ContainerEngine(server.engine).state(server.container)
        return state is not None and state.running

    def _end(self, server: Container, timeout: float, *, force: bool = False) -> None:
        ContainerEngine(server.engine).end(server.container, 0 if force else timeout)

    def _fits(self, before: Container, served: HostedModel, host: str) -> bool:
        if not super()._fits(before, served, host):
            return False
        settings = self._settings or before.settings
        if settings.engine not in {"auto", before.engine}:
            return False
        if settings.model_copy(update={"engine": before.settings.engine}) != before.settings:
            return False
        # Of an image that is gone there is no newer one: the container goes on.
        return ContainerEngine(before.engine).image_id(settings.image) in {None, before.image_id}

    def _store(self, source: Path, name: str, version: str, alias: str, serving: ServingConfig) -> HostedModel:
        served = super()._store(source, name, version, alias, serving)
        _open(served.bundle.parent)
        return served

    def _seen_by_server(self, bundle: Path) -> Path:
        return Path(_BUNDLES / bundle.name)

    # A new container

    def _replace(
        self, before: Container | None, served: HostedModel, host: str, smoke_images: Sequence[bytes], timeout: float
    ) -> Container:
        settings = self._settings or (before.settings if before else ContainerSettings())
        engine, image_id = find_engine(settings.engine, settings.image)  # before anything that serves is touched
        alive = self._clear_way(before)
        self._write_smoke(smoke_images)
        asked, last = served.serving.port, before.port if before else 0
        moves = alive and asked == last  # it gets the port of the one that still answers
        ports = [asked] if asked and not moves else [0] if alive or not last else [last, 0]
        server = self._run(engine, image_id, settings, served, host, ports, timeout)
        if before and alive:
            self._end(before, GRACE_SECONDS)
        if before and moves:
            self._end(server, 0)
            try:
                server = self._run(engine, image_id, settings, served, host, [asked], timeout)
            except DeploymentError:
                back = self._run(
                    ContainerEngine(before.engine),
                    before.image_id,
                    before.settings,
                    before.served,
                    host,
                    [last],
                    timeout,
                )
                self._starting.unlink(missing_ok=True)
                self._write(self._record, back)
                raise
        self._starting.replace(self._record)
        return server

    def _run(
        self,
        engine: ContainerEngine,
        image_id: str,
        settings: ContainerSettings,
        served: HostedModel,
        host: str,
        ports: Sequence[int],
        timeout: float,
    ) -> Container:
        """A container that answers; none when it does not.

        Args:
            ports: To publish on, in the order in which they are tried; 0: any free one.
        """
        self._prepare(served)
        for port in ports:
            label = f"visionops-{served.name}-{secrets.token_hex(3)}".lower()
            options = self._options(engine, settings, served, label, f"{_bracketed(host)}:{port or ''}:{_PORT}")
            arguments = self._arguments(served, cache=Path(_CACHE), smoke=Path(_SMOKE), predictions=Path(_PREDICTIONS))
            server = Container(
                host=host,
                port=port,
                served=served,
                container=engine.create(image_id, options, arguments),
                label=label,
                engine=engine.name,
                image_id=image_id,
                settings=settings,
            )
            self._write(self._starting, server)
            try:
                engine.start(server.container)
                return self._await_ready(engine, server, timeout)
            except PortTaken as error:
                self._give_up(engine, server)
                if port == ports[-1]:
                    raise port_taken(host, port, "it is in use") from error
            except BaseException:
                self._give_up(engine, server)
                raise
        raise AssertionError("the last port is taken or it is not")

    def _give_up(self, engine: ContainerEngine, server: Container) -> None:
        engine.end(server.container, 0)
        self._starting.unlink(missing_ok=True)

    def _await_ready(self, engine: ContainerEngine, server: Container, timeout: float) -> Container:
        """It answers the smoke images before it is; its port is known once it runs."""
        who, deadline = server.served.who, time.monotonic() + timeout
        while True:
            state = engine.state(server.container)
            if state is None or not state.running:
                memory = f" (it needed more than {server.settings.memory} of memory)"
                words = engine.last_words(server.container) or "it printed nothing"
                killed = memory if state and state.killed_for_memory else ""
                raise DeploymentError(f"{who}: the container ended at once{killed}: {words}")
            server = server.model_copy(update={"port": state.port})
            try:
                # Somebody accepts connections before the server does, and drops them.
                left = max(1.0, deadline - time.monotonic())
                ready = http("GET", f"{server.url}/ready", timeout=left, headers=self._headers())
            except requests.RequestException as error:
                if time.monotonic() > deadline:
                    words = engine.last_words(server.container) or "it printed nothing"
                    raise DeploymentError(
                        f"{who}: does not answer in {timeout:.0f} s; its last words: {words}"
                    ) from error
                time.sleep(_POLL_SECONDS)
                continue
            if not ready.ok:
                raise DeploymentError(f"{who}: is not ready: {reason(ready)}")
            self._write(self._starting, server)
            return server

    # What it sees of this machine

    def _prepare(self, served: HostedModel) -> None:
        """Files that the container's user can read, and folders that it can write, and nobody else."""
        for folder in (self._keys, self._cache, self.predictions):
            folder.mkdir(parents=True, exist_ok=True)
        self._write_keys()
        variables = store_variables(served.serving)
        self._environment.unlink(missing_ok=True)
        lines = [f"{key}={value}\n" for key, value in variables.items() if "\n" not in value]
        with open(self._environment, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.writelines(lines)
        _open(self._smoke)
        _open(self._keys)
        if os.getuid() == 0:
            for folder in (self._cache, self.predictions):
                for path in (folder, *folder.rglob("*")):
                    if path.stat().st_uid != _IMAGE_UID:
                        os.chown(path, _IMAGE_UID, _IMAGE_UID)

    def _write_keys(self) -> None:
        path = self._keys / "api.keys"
        line = f"deployer admin sha256:{hashlib.sha256(self.admin_key().encode()).hexdigest()}\n"
        lines = path.read_text(encoding="utf-8") if path.exists() else ""
        if line not in lines:
            path.write_text(line + lines, encoding="utf-8")

    def _options(
        self, engine: ContainerEngine, settings: ContainerSettings, served: HostedModel, label: str, published: str
    ) -> list[str]:
        mounts = {
            _BUNDLES: (served.bundle.parent, True),
            _SMOKE: (self._smoke, True),
            _KEYS: (self._keys, True),
            _CACHE: (self._cache, False),
        }
        if served.serving.prediction_log:
            mounts[_PREDICTIONS] = (self.predictions, False)
        options = ["--name", label, "--label", f"visionops.name={served.name}"]
        options += ["--read-only", "--tmpfs", "/tmp:rw,noexec,nosuid,nodev,size=512m"]  # noqa: S108 - the container's
        options += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--pids-limit", "1024"]
        options += ["--memory", settings.memory, *(["--cpus", str(settings.cpus)] if settings.cpus else [])]
        options += ["--publish", published, "--log-opt", f"max-size={_LOG_BYTES}", *_user(engine)]
        options += ["--env-file", str(self._environment), "--env", f"{variable('keys')}={_KEYS / 'api.keys'}"]
        # Who gets to the published port sees what anybody sees of a process of this machine.
        options += ["--env", f"{variable('open_metrics')}=true", "--env", f"{variable('open_ready')}=true"]
        for target, (source, read_only) in mounts.items():
            options += ["--mount", f"type=bind,source={source},target={target}{',readonly' if read_only else ''}"]
        return options


def _open(folder: Path) -> None:
    """Let the container's user read it; the folder above is closed to all but its owner."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _user(engine: ContainerEngine) -> list[str]:
    """Whose files the container's are on this machine: those of who deploys, and the image's own user for root."""
    uid, gid = os.getuid(), os.getgid()
    if uid == 0:
        return ["--user", f"{_IMAGE_UID}:{_IMAGE_UID}"]
    return ["--user", f"{uid}:{gid}", *(["--userns", "keep-id"] if engine.name == "podman" else [])]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
