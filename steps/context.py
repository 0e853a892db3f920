"""Provide components of the active stack to the steps; no other module in `steps/` uses ZenML's stack."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from zenml.client import Client

from stacks.registry import active_registry_uri
from stacks.validators.active import ValidatorRole, active_validator
from visionops.alerts import Alerter
from visionops.code_version import code_version
from visionops.endpoint import Endpoint, EndpointDeployer
from visionops.errors import DeploymentError, StackError
from visionops.inference.bundle import ModelBundle
from visionops.monitoring.gateway import Pushgateway
from visionops.registry import ModelRegistry, RegisteredVersion

if TYPE_CHECKING:  # they import tables and image libraries, which not every pipeline needs
    from visionops.data.validation.validator import ImageValidator
    from visionops.monitoring.drift.validator import DriftValidator

__all__ = [
    "active_alerter",
    "active_deployer",
    "active_drift_validator",
    "active_image_validator",
    "active_pushgateway",
    "active_registry",
    "cache_identity",
    "champion_bundle",
    "is_store_local",
    "live_endpoint",
    "shared_place",
    "validation_identity",
    "version_bundle",
]

_IDENTITY = ".identity"


def active_registry() -> ModelRegistry:
    """Return the registry of the active stack."""
    return ModelRegistry(active_registry_uri())


@contextmanager
def champion_bundle(name: str) -> Iterator[tuple[RegisteredVersion, ModelBundle]]:
    """Provide the champion and its bundle while the block runs.

    Raises:
        RegistryError: The use case has no champion.
    """
    champion = active_registry().champion(name)
    with version_bundle(champion) as bundle:
        yield champion, bundle


@contextmanager
def version_bundle(version: RegisteredVersion) -> Iterator[ModelBundle]:
    """Provide the bundle of a registered version while the block runs.

    Raises:
        RegistryError: The bundle cannot be fetched.
    """
    with tempfile.TemporaryDirectory(prefix="visionops-champion-") as folder:
        yield active_registry().fetch_bundle(version, Path(folder))


def active_deployer() -> EndpointDeployer:
    """Return the model deployer of the active stack.

    Raises:
        StackError: The stack has none, or one that cannot serve bundles.
    """
    stack = Client().active_stack
    if not hasattr(stack.model_deployer, "deploy_bundle"):
        raise StackError(f"stack {stack.name!r}: missing VisionOps model deployer; run visionops stack apply local")
    return cast("EndpointDeployer", stack.model_deployer)


def active_alerter() -> Alerter | None:
    """Return the alerter of the active stack; None for a stack without one.

    Raises:
        StackError: The alerter has another flavor than ours.
    """
    stack = Client().active_stack
    if stack.alerter is not None and not hasattr(stack.alerter, "send"):
        raise StackError(f"stack {stack.name!r}: expected an alerter of flavor visionops_alertmanager; replace it")
    return cast("Alerter | None", stack.alerter)


def active_pushgateway() -> Pushgateway:
    """Return the active stack's Pushgateway for pipeline metrics; it has no URL if none is set.

    Raises:
        StackError: The secret with its login is missing.
    """
    find = getattr(getattr(Client().active_stack.alerter, "config", None), "pushgateway", Pushgateway)
    return cast("Pushgateway", find())


def active_image_validator() -> ImageValidator:
    """Return the data validator of the active stack, for images and labels.

    Raises:
        StackError: The stack has none, or one that validates no images.
    """
    return cast("ImageValidator", active_validator(ValidatorRole.IMAGES))


def active_drift_validator() -> DriftValidator:
    """Return the data validator of the active stack, for drift.

    Raises:
        StackError: The stack has none, or one that looks for no drift.
    """
    return cast("DriftValidator", active_validator(ValidatorRole.DRIFT))


def live_endpoint(name: str) -> Endpoint:
    """Return the endpoint of a use case on the active stack.

    Raises:
        DeploymentError: No endpoint runs.
        StackError: The stack has no deployer.
    """
    endpoint = active_deployer().find_endpoint(name)
    if endpoint is None:
        raise DeploymentError(f"{name}: no endpoint runs; start it with visionops deploy")
    return endpoint


def shared_place() -> str | None:
    """Return the URI of the artifact store if steps run on other machines; None if they run on this one."""
    stack = Client().active_stack
    return None if stack.orchestrator.flavor == "local" else str(stack.artifact_store.path)


def is_store_local() -> bool:
    """Return whether the artifact store is a folder on this machine."""
    return bool(Client().active_stack.artifact_store.config.is_local)


def cache_identity() -> str:
    """Return the part of a cache key besides a step's inputs: the domain code and the artifact store.

    A local store can be deleted while ZenML still lists its artifacts, so each local store contains its own identity.
    """
    store = Client().active_stack.artifact_store
    return f"{code_version()} {_store_identity(Path(store.path)) if store.config.is_local else store.path}"


def validation_identity() -> str:
    """Return the part of a validation's cache key besides its inputs: `cache_identity` and the data validator.

    Without a validator this does not raise, because ZenML hides errors of cache functions; the step raises instead.
    """
    try:
        validator = active_image_validator().identity
    except StackError:
        validator = "none"
    return f"{cache_identity()} {validator}".rstrip()


def _store_identity(folder: Path) -> str:
    path = folder / _IDENTITY
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
            file.write(uuid.uuid4().hex)
        try:
            path.hardlink_to(file.name)  # unlike a rename, this never replaces another process's new file
        except FileExistsError:
            pass
        finally:
            Path(file.name).unlink()
    return path.read_text(encoding="utf-8")
