"""Start, switch, stop and find a prediction server that runs in a container on this machine.

Its folder has the files of `stacks.deployers.host_endpoint` and two more. keys/api.keys has digests of the API keys;
you may add lines, which the server reads within a second. container.env has the credentials of the prediction log's
store, if one is set.

A new model goes into the running container through /reload, without a failed request. Only a changed image or limit
starts a new container, next to the old one, which stops when the new one answers. With `serving.port: 0` the new
container keeps its new port. Otherwise it takes over the port of the old one, which is free only after that has
stopped, so requests fail until the new container, already tested on another port, has started there.

This module does not use ZenML.
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
    reason,
    store_variables,
)
from stacks.deployers.ports import port_taken, ports_to_try
from visionops.errors import DeploymentError
from visionops.inference.settings import ServingConfig
from visionops.options import variable

__all__ = ["Container", "ContainerEndpoint", "ContainerSettings"]

_IMAGE_UID = 10001
"""User id of the server in deploy/images/serving/Dockerfile."""
_PORT = 8000
_BUNDLES, _SMOKE, _CACHE = PurePosixPath("/bundles"), PurePosixPath("/smoke"), PurePosixPath("/cache")
_KEYS, _PREDICTIONS = PurePosixPath("/keys"), PurePosixPath("/predictions")
_POLL_SECONDS = 0.05
_LOG_BYTES = "10m"


class ContainerSettings(BaseModel):
    """Image and limits of a container."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    engine: str = Field(default="auto", pattern="^(auto|podman|docker)$")
    """Container engine: podman, docker, or auto for the first one that has the image."""
    image: str = Field(default="localhost/visionops-serving:latest", min_length=1)
    """Name of the image; the default is the one that `make images` builds."""
    memory: str = Field(default="2g", pattern=r"^[1-9][0-9]*[bkmg]$")
    """Memory limit in the engine's notation; the container is killed when it exceeds it."""
    cpus: float = Field(default=0, ge=0, le=1024)
    """Limit in CPU cores; 0 for no limit."""


class Container(Listening):
    """A container and the model that it serves."""

    container: str
    """Container id."""
    label: str
    """Container name."""
    engine: str
    image_id: str
    settings: ContainerSettings


class ContainerEndpoint(StoredEndpoint[Container]):
    """The container of one model name, whose files lie in ``folder``.

    Args:
        settings: Settings for `deploy`; by default those of the last deployment.
    """

    SERVER: ClassVar[type[Listening]] = Container
    ASKS_FOR_KEY: ClassVar[bool] = True

    def __init__(self, folder: Path, settings: ContainerSettings | None = None) -> None:
        super().__init__(folder)
        self._settings = settings
        # A process of the same name uses another folder, so that their traffic is not mixed.
        self.predictions = folder.parent.parent / f"{folder.parent.name}-prediction-log" / folder.name
        self._keys = folder / "keys"
        self._environment = folder / "container.env"

    @property
    def log_hint(self) -> str:
        """Return the command that shows the log."""
        server = self.server
        return f"`{server.engine} logs {server.label}`" if server else "its log"

    def log_lines(self) -> list[str]:
        """Return the lines of the log."""
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
        # If the image has been removed, the running container stays.
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
        engine, image_id = find_engine(settings.engine, settings.image)  # fails before the running server is changed
        alive = self._clear_way(before)
        self._write_smoke(smoke_images)
        requested, last = served.serving.port, before.port if before else 0
        # It takes over the port of the container that still answers.
        moves = alive and requested in {None, last}
        ports = (0,) if moves or (alive and not requested) else ports_to_try(requested, last)
        server = self._run(engine, image_id, settings, served, host, ports, timeout)
        if before and alive:
            self._end(before, GRACE_SECONDS)
        if before and moves:
            self._end(server, 0)
            try:
                server = self._run(engine, image_id, settings, served, host, [last], timeout)
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
        """Return a new container that answers, or remove it and raise.

        Args:
            ports: Ports to try in this order; 0 for any free port.
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
        raise AssertionError("the last port is free or in use")

    def _give_up(self, engine: ContainerEngine, server: Container) -> None:
        engine.end(server.container, 0)
        self._starting.unlink(missing_ok=True)

    def _await_ready(self, engine: ContainerEngine, server: Container, timeout: float) -> Container:
        """Wait until a container has answered the smoke images, and return it with its port."""
        who, deadline = server.served.who, time.monotonic() + timeout
        while True:
            state = engine.state(server.container)
            if state is None or not state.running:
                memory = f" (it exceeded its memory limit of {server.settings.memory})"
                words = engine.last_words(server.container) or "it printed nothing"
                killed = memory if state and state.killed_for_memory else ""
                raise DeploymentError(f"{who}: the container exited at once{killed}: {words}")
            server = server.model_copy(update={"port": state.port})
            try:
                # The engine's proxy accepts connections before the server does, and drops them.
                left = max(1.0, deadline - time.monotonic())
                ready = http("GET", f"{server.url}/ready", timeout=left, headers=self._headers())
            except requests.RequestException as error:
                if time.monotonic() > deadline:
                    words = engine.last_words(server.container) or "it printed nothing"
                    raise DeploymentError(
                        f"{who}: does not answer in {timeout:.0f} s; last log line: {words}"
                    ) from error
                time.sleep(_POLL_SECONDS)
                continue
            if not ready.ok:
                raise DeploymentError(f"{who}: is not ready: {reason(ready)}")
            self._write(self._starting, server)
            return server

    # Access of the container to this machine

    def _prepare(self, served: HostedModel) -> None:
        """Create the files and folders that only the container's user can read or write."""
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
        # Clients of the published port get the same access as local users get to a process on this machine.
        options += ["--env", f"{variable('open_metrics')}=true", "--env", f"{variable('open_ready')}=true"]
        for target, (source, read_only) in mounts.items():
            options += ["--mount", f"type=bind,source={source},target={target}{',readonly' if read_only else ''}"]
        return options


def _open(folder: Path) -> None:
    """Make a folder readable for the container's user; the parent folder is open only to its owner."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _user(engine: ContainerEngine) -> list[str]:
    """Return the options that run the container as the deploying user, or as the image's user when that is root."""
    uid, gid = os.getuid(), os.getgid()
    if uid == 0:
        return ["--user", f"{_IMAGE_UID}:{_IMAGE_UID}"]
    return ["--user", f"{uid}:{gid}", *(["--userns", "keep-id"] if engine.name == "podman" else [])]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
