"""Check folders, disks, container engines and images of this machine."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from stacks.deployers.engines import ENGINES, ContainerEngine, find_engine
from stacks.doctor.findings import CheckResult, Examined, broken, of_error, ok, warning
from stacks.doctor.web import NO_ANSWER_SECONDS
from visionops.errors import DeploymentError

__all__ = [
    "check_artifact_folder",
    "check_container_deployer",
    "check_folder",
    "check_image_builder",
    "check_local_deployer",
    "check_local_orchestrator",
]

_GIB = 1 << 30
_TOO_FULL, _NEARLY_FULL = _GIB // 2, 5 * _GIB


def check_folder(folder: Path, what: str) -> Iterator[CheckResult]:
    """Check that a folder is writable, or can be created, and that its disk has space.

    Args:
        what: Contents of the folder, for messages.
    """
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there, prefix="visionops-doctor-") as file:
            file.write(b"x")
            file.flush()
        free = shutil.disk_usage(there).free
    except OSError as error:
        fix = "free its disk" if error.errno == 28 else "make it writable, or set VISIONOPS_HOME to another folder"
        yield broken(f"{folder}: {there} cannot be written ({error.strerror})", fix)
        return
    room = f"{free / _GIB:.1f} GiB free"
    if free < _NEARLY_FULL:
        finding = broken if free < _TOO_FULL else warning
        yield finding(f"{folder}: {room}", f"free disk space for {what}, or set VISIONOPS_HOME to a larger disk")
    else:
        yield ok(f"{folder}: writable, {room}")


def check_artifact_folder(examined: Examined) -> Iterator[CheckResult]:
    """Check the folder of a local artifact store."""
    path = examined.component.configuration.get("path")
    if examined.is_remote:
        yield broken("a folder on this machine, but steps run elsewhere", "give the stack an s3 artifact store")
    elif path:
        yield from check_folder(Path(path), "artifacts")
    else:
        yield ok("in ZenML's own folder")


def check_local_orchestrator(examined: Examined) -> Iterator[CheckResult]:
    """Report the Python that runs steps, which are calls in the process that starts a run."""
    del examined
    yield ok(f"steps run here, in Python {sys.version_info.major}.{sys.version_info.minor}")


def check_local_deployer(examined: Examined) -> Iterator[CheckResult]:
    """Check the folder of endpoints that are processes on this machine."""
    from stacks.deployers.local import LocalModelDeployerConfig

    config = LocalModelDeployerConfig(**examined.component.configuration)
    yield from check_folder(Path(config.folder), "endpoints")


def check_container_deployer(examined: Examined) -> Iterator[CheckResult]:
    """Check the folder, engine and image of endpoints that are containers on this machine."""
    from stacks.deployers.container import ContainerModelDeployerConfig

    config = ContainerModelDeployerConfig(**examined.component.configuration)
    yield from check_folder(Path(config.folder), "endpoints")
    wanted, image = config.container.engine, config.container.image
    try:
        engine, image_id = find_engine(wanted, image, NO_ANSWER_SECONDS)
        yield ok(f"{engine.name} {engine.version} has {image} ({image_id.removeprefix('sha256:')[:12]})")
    except DeploymentError as error:
        present = [name for name in ENGINES if wanted in {name, "auto"} and shutil.which(name)]
        unwell = list(filter(None, map(_unwell, present)))
        yield from unwell
        if len(unwell) < len(present) or not present:  # without a working engine the images are unknown
            yield of_error(error)


def check_image_builder(examined: Examined) -> Iterator[CheckResult]:
    """Check that ZenML can build images: with docker, or with podman if docker does not work."""
    del examined
    from zenml.config.global_config import GlobalConfiguration

    chosen = GlobalConfiguration().container_engine
    wanted = [str(chosen.value)] if chosen else ["docker", "podman"]
    present = [name for name in wanted if shutil.which(name)]
    unwell = {name: trouble for name in present if (trouble := _unwell(name))}
    if well := [name for name in present if name not in unwell]:
        yield ok(f"{well[0]} answers")
    elif present:
        yield from unwell.values()
    else:
        yield broken(f"{' and '.join(wanted)}: not on the path", f"install one: apt-get install {wanted[-1]}")


def _unwell(name: str) -> CheckResult | None:
    """Return the problem of an engine, or None if it works."""
    try:
        _ = ContainerEngine(name, NO_ANSWER_SECONDS).version
    except DeploymentError as error:
        fix = "start its daemon: systemctl start docker" if name == "docker" else f"see the output of `{name} info`"
        return broken(str(error).partition("; ")[0], fix)
    return None
