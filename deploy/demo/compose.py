"""Read the services of deploy/compose.yaml, and run them with podman-compose or docker compose."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from visionops.errors import DeploymentError

__all__ = ["FILE", "PROJECT", "Compose", "Service", "check_ports", "find_compose", "read_services"]

FILE = Path(__file__).resolve().parents[1] / "compose.yaml"
PROJECT = "visionops-demo"
"""Project name of the demo, different from a compose file started by hand, because `make demo-down` removes volumes."""
_DEFAULTED = re.compile(r"\$\{(\w+):-([^}]*)\}")
_LABELS = ("io.podman.compose.project", "com.docker.compose.project")
_TOOLS = (("podman", ("podman-compose",)), ("docker", ("docker", "compose")))


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """One service of the compose file."""

    name: str
    image: str
    port: int
    """Port on this machine; 0 for none."""
    port_variable: str
    profiles: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Compose:
    """A container engine and its compose tool."""

    engine: str
    command: tuple[str, ...]

    def run(
        self, words: Sequence[str], profiles: Sequence[str], variables: Mapping[str, str], entered: str = ""
    ) -> str:
        """Run the tool on the demo's project, and return its output.

        Args:
            entered: Standard input of the tool.

        Raises:
            DeploymentError: The tool fails; the message has its last line.
        """
        chosen = [word for profile in profiles for word in ("--profile", profile)]
        command = [*self.command, "-f", str(FILE), "-p", PROJECT, *chosen, *words]
        done = subprocess.run(  # noqa: S603 - our own words
            command,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | dict(variables),
            input=entered,
        )
        if done.returncode != 0:
            lines = (done.stderr.strip() or done.stdout.strip()).splitlines() or [f"exit code {done.returncode}"]
            raise DeploymentError(f"{' '.join(self.command)} {words[0]}: {lines[-1]}")
        return done.stdout

    def has_image(self, image: str) -> bool:
        """Return whether the engine has an image."""
        return self._engine("image", "inspect", image).returncode == 0

    def pull(self, image: str) -> None:
        """Pull an image.

        Raises:
            DeploymentError: The image cannot be pulled.
        """
        done = self._engine("pull", "--quiet", image)
        if done.returncode != 0:
            said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise DeploymentError(f"{image}: cannot be pulled ({said})")

    def containers(self) -> list[str]:
        """Return the ids of the project's containers."""
        return sorted({i for label in _LABELS for i in self._ids("ps", "--all", "--quiet", label=label)})

    def remove(self, containers: Sequence[str]) -> None:
        """Stop and remove containers; ignore those that are gone."""
        for container in containers:
            self._engine("rm", "--force", "--volumes", container)

    def leftovers(self) -> list[str]:
        """Return the project's remaining volumes and networks, as text for people."""
        return [f"{kind} {name}" for kind in ("volume", "network") for name in self._named(kind)]

    def _named(self, kind: str) -> list[str]:
        shown = self._engine(kind, "ls", "--format", "{{.Name}}").stdout.split()
        return [name for name in shown if name.startswith(f"{PROJECT}_")]

    def _ids(self, *words: str, label: str) -> list[str]:
        return self._engine(*words, "--filter", f"label={label}={PROJECT}").stdout.split()

    def _engine(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.engine, *words], capture_output=True, text=True, check=False)  # noqa: S603


def find_compose() -> Compose:
    """Return podman with podman-compose if both are installed, otherwise docker with its compose plugin.

    Raises:
        DeploymentError: Neither is installed.
    """
    for engine, command in _TOOLS:
        if shutil.which(engine) and shutil.which(command[0]):
            version = subprocess.run([*command, "version"], capture_output=True, check=False)  # noqa: S603
            if version.returncode == 0:
                return Compose(engine, command)
    raise DeploymentError(
        "neither podman with podman-compose nor docker with its compose plugin is installed; run "
        "apt-get install podman; pip install podman-compose"
    )


def read_services(variables: Mapping[str, str]) -> dict[str, Service]:
    """Return the services of the file, with the ports and images that ``variables`` set."""

    def filled(text: str) -> str:
        return _DEFAULTED.sub(lambda match: variables.get(match[1]) or match[2], text)

    found = {}
    for name, content in yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"].items():
        port = next(iter(content.get("ports", ())), "")
        variable = _DEFAULTED.search(port)
        found[name] = Service(
            name,
            filled(content["image"]),
            int(filled(port).split(":")[1]) if port else 0,
            variable[1] if variable else "",
            tuple(content.get("profiles", ())),
        )
    return found


def check_ports(services: Sequence[Service]) -> None:
    """Check that the ports of ``services`` are free.

    Raises:
        DeploymentError: A port is in use; the message names the variable that sets another one.
    """
    for service in services:
        if not service.port:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", service.port))
            except OSError as error:
                raise DeploymentError(
                    f"port {service.port} of {service.name} is in use; stop the program on it, or set another port: "
                    f"{service.port_variable}=PORT make demo"
                ) from error
