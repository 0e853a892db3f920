"""Folders, disks, container engines and images of this machine."""

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
    """Whether it can be written, or made, and its disk has room.

    Args:
        what: Is kept there.
    """
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there, prefix="visionops-doctor-") as file:
            file.write(b"x")
            file.flush()
        free = shutil.disk_usage(there).free
    except OSError as error:
        mend = "free its disk" if error.errno == 28 else "give yourself the right to, or set VISIONOPS_HOME to another"
        yield broken(f"{folder}: {there} cannot be written ({error.strerror})", mend)
        return
    room = f"{free / _GIB:.1f} GiB free"
    if free < _NEARLY_FULL:
        finding = broken if free < _TOO_FULL else warning
        yield finding(f"{folder}: {room}", f"free the disk, or set VISIONOPS_HOME to a larger one, for {what}")
    else:
        yield ok(f"{folder}: writable, {room}")


def check_artifact_folder(examined: Examined) -> Iterator[CheckResult]:
    """A local artifact store."""
    path = examined.component.configuration.get("path")
    if examined.is_remote:
        yield broken("a folder of this machine, and steps run elsewhere", "give the stack an s3 artifact store")
    elif path:
        yield from check_folder(Path(path), "artifacts")
    else:
        yield ok("in ZenML's own folder")


def check_local_orchestrator(examined: Examined) -> Iterator[CheckResult]:
    """Steps are calls in the process of who starts a run."""
    del examined
    yield ok(f"steps run here, in Python {sys.version_info.major}.{sys.version_info.minor}")


def check_local_deployer(examined: Examined) -> Iterator[CheckResult]:
    """Endpoints are processes of this machine."""
    from stacks.deployers.local import LocalModelDeployerConfig

    config = LocalModelDeployerConfig(**examined.component.configuration)
    yield from check_folder(Path(config.folder), "endpoints")


def check_container_deployer(examined: Examined) -> Iterator[CheckResult]:
    """Endpoints are containers of this machine."""
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
        if len(unwell) < len(present) or not present:  # else nobody could say what images there are
            yield of_error(error)


def check_image_builder(examined: Examined) -> Iterator[CheckResult]:
    """ZenML builds with docker, or with podman where that does not work."""
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
    """What is wrong with an engine, if anything is."""
    try:
        _ = ContainerEngine(name, NO_ANSWER_SECONDS).version
    except DeploymentError as error:
        mend = "start its daemon: systemctl start docker" if name == "docker" else f"see what `{name} info` says"
        return broken(str(error).partition("; ")[0], mend)
    return None
