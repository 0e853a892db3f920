"""Run Podman and Docker through their command lines, which agree in all options used here.

Their libraries are not used: podman has no daemon to connect to, and a deployer makes few calls.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from visionops.errors import DeploymentError

__all__ = ["ENGINES", "ContainerEngine", "ContainerState", "PortTaken", "find_engine"]

ENGINES = ("podman", "docker")
_SECONDS = 120.0
_PODMAN_VERSION = ("info", "--format", "{{.Version.Version}}")  # its `version` does not look at its store
_TAKEN = re.compile(r"already (in use|allocated)")
_ABSENT = re.compile(r"no such (object|container|image)|not known|no container with", re.IGNORECASE)


class PortTaken(DeploymentError):
    """The port on which a container was to be published is in use."""


class ContainerState(NamedTuple):
    """State of a container as the engine reports it."""

    running: bool
    port: int
    """Published port on this machine; 0 while the container does not run."""
    killed_for_memory: bool


class ContainerEngine:
    """One of `ENGINES`.

    Args:
        patience: Seconds that it may take to report its version and images.
    """

    def __init__(self, name: str, patience: float = _SECONDS) -> None:
        self.name = name
        self.patience = patience

    @property
    def version(self) -> str:
        """Version of the engine itself: of docker's daemon, not of its command.

        Raises:
            DeploymentError: The engine does not work, or its daemon does not answer.
        """
        arguments = ("version", "--format", "{{.Server.Version}}") if self.name == "docker" else _PODMAN_VERSION
        return self.run(*arguments, seconds=self.patience)

    def image_id(self, image: str) -> str | None:
        """Return the id of the image of this name; None if it is missing."""
        return self._run_unless_absent("image", "inspect", "--format", "{{.Id}}", image, seconds=self.patience)

    def create(self, image: str, options: Sequence[str | Path], arguments: Sequence[str]) -> str:
        """Create a container without starting it.

        Returns:
            The container's id.

        Raises:
            DeploymentError: The engine refuses; with its message.
        """
        return self.run("create", "--pull=never", *options, image, *arguments)

    def start(self, container: str) -> None:
        """Start a container.

        Raises:
            PortTaken: Another program uses the port.
            DeploymentError: The engine refuses; with its message.
        """
        self.run("start", container)

    def state(self, container: str) -> ContainerState | None:
        """Return the state of a container; None if it is missing."""
        text = self._run_unless_absent("container", "inspect", container)
        if text is None:
            return None
        found: dict[str, Any] = json.loads(text)[0]
        bound = [pair for pairs in (found["NetworkSettings"].get("Ports") or {}).values() for pair in pairs or ()]
        state = found["State"]
        return ContainerState(
            running=bool(state["Running"]),
            port=int(bound[0]["HostPort"] or 0) if bound else 0,
            killed_for_memory=bool(state.get("OOMKilled")),
        )

    def log_lines(self, container: str) -> list[str]:
        """Return the output of a container, errors last; empty if it is missing."""
        done = self._call("logs", container)
        return [] if done.returncode else (done.stdout + done.stderr).splitlines()

    def last_words(self, container: str) -> str:
        """Return the last line of the output."""
        return _last_line("\n".join(self.log_lines(container)))

    def end(self, container: str, seconds: float) -> None:
        """Stop and remove a container after at most ``seconds`` for its open requests; 0 kills it at once."""
        if (state := self.state(container)) is None:
            return
        if state.running:
            # `rm --force` alone kills with one engine and waits with the other.
            ending = ("stop", "-t", str(round(seconds))) if seconds else ("kill",)
            self._run_unless_absent(*ending, container, seconds=seconds + _SECONDS)
        self._run_unless_absent("rm", "--force", "--volumes", container)

    def run(self, *arguments: str | Path, seconds: float = _SECONDS) -> str:
        """Return the output of a command.

        Raises:
            PortTaken: The engine reports a port in use.
            DeploymentError: The command fails; with its last line.
        """
        done = self._call(*arguments, seconds=seconds)
        if done.returncode == 0:
            return done.stdout.strip()
        words = _last_line(done.stderr) or f"exit status {done.returncode}"
        error = PortTaken if _TAKEN.search(words) else DeploymentError
        raise error(f"{self.name} {arguments[0]}: {words}")

    def _run_unless_absent(self, *arguments: str, seconds: float = _SECONDS) -> str | None:
        try:
            return self.run(*arguments, seconds=seconds)
        except DeploymentError as error:
            if _ABSENT.search(str(error)):
                return None
            raise

    def _call(self, *arguments: str | Path, seconds: float = _SECONDS) -> subprocess.CompletedProcess[str]:
        program = shutil.which(self.name)
        if program is None:
            raise DeploymentError(f"{self.name} is not on the path; install it, or change the deployer's engine")
        try:
            return subprocess.run(  # noqa: S603 - a container engine
                [program, *arguments], capture_output=True, text=True, errors="replace", timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise DeploymentError(
                f"{self.name} {arguments[0]}: no answer in {seconds:.0f} s; check the engine with `{self.name} ps`"
            ) from error


def find_engine(name: str, image: str, patience: float = _SECONDS) -> tuple[ContainerEngine, str]:
    """Return the engine ``name``, or for `auto` the first that has the image, and the image's id.

    Args:
        patience: Seconds for each engine to answer.

    Raises:
        DeploymentError: No engine is installed, or none has the image.
    """
    present = [engine for engine in ENGINES if name in {engine, "auto"} and shutil.which(engine)]
    if not present:
        if name != "auto":
            raise DeploymentError(f"{name} is not on the path; install it, or set the deployer's engine to auto")
        raise DeploymentError(f"neither {' nor '.join(ENGINES)} is on the path; install one: apt-get install podman")
    unwell = ""
    for candidate in (ContainerEngine(engine, patience) for engine in present):
        try:
            if image_id := candidate.image_id(image):
                return candidate, image_id
        except DeploymentError as error:  # podman may still work when docker's daemon does not
            unwell = f" ({error})"
    raise DeploymentError(f"image {image}: missing from {' and '.join(present)}{unwell}; build it: make images")


def _last_line(text: str) -> str:
    # Podman without systemd logs health checks around the line with the error.
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if not line.startswith("time=")]
    return (errors or lines or [""])[-1].removeprefix("Error: ").removeprefix("error: ")
