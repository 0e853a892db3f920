"""What the steps take from the active stack: nothing else in `steps/` knows that ZenML has one."""

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

if TYPE_CHECKING:  # tables and image libraries come with them, which not every pipeline needs
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
    """The champion and its bundle, which is there while the block runs.

    Raises:
        RegistryError: There is no champion.
    """
    champion = active_registry().champion(name)
    with version_bundle(champion) as bundle:
        yield champion, bundle


@contextmanager
def version_bundle(version: RegisteredVersion) -> Iterator[ModelBundle]:
    """The bundle of a registered version, which is there while the block runs.

    Raises:
        RegistryError: It cannot be fetched.
    """
    with tempfile.TemporaryDirectory(prefix="visionops-champion-") as folder:
        yield active_registry().fetch_bundle(version, Path(folder))


def active_deployer() -> EndpointDeployer:
    """The model deployer of the active stack.

    Raises:
        StackError: The stack has none, or one that cannot take a bundle.
    """
    stack = Client().active_stack
    if not hasattr(stack.model_deployer, "deploy_bundle"):
        raise StackError(f"stack {stack.name!r}: has no VisionOps model deployer; run visionops stack apply local")
    return cast("EndpointDeployer", stack.model_deployer)


def active_alerter() -> Alerter | None:
    """The alerter of the active stack; None for a stack without one.

    Raises:
        StackError: It is none of ours.
    """
    stack = Client().active_stack
    if stack.alerter is not None and not hasattr(stack.alerter, "send"):
        raise StackError(f"stack {stack.name!r}: its alerter is not of flavor visionops_alertmanager; exchange it")
    return cast("Alerter | None", stack.alerter)


def active_pushgateway() -> Pushgateway:
    """Return where the active stack keeps figures of pipelines; one without a URL for nowhere.

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
    """The endpoint of a use case, on the active stack.

    Raises:
        DeploymentError: None runs.
        StackError: The stack deploys nothing.
    """
    endpoint = active_deployer().find_endpoint(name)
    if endpoint is None:
        raise DeploymentError(f"{name}: no endpoint runs; visionops deploy serves the champion")
    return endpoint


def shared_place() -> str | None:
    """What steps on other machines share: the artifact store. None where steps run on this one."""
    stack = Client().active_stack
    return None if stack.orchestrator.flavor == "local" else str(stack.artifact_store.path)


def is_store_local() -> bool:
    """Whether the artifact store is a folder of this machine."""
    return bool(Client().active_stack.artifact_store.config.is_local)


def cache_identity() -> str:
    """What a cached result depends on beside a step's inputs: the domain code, and the artifact store that holds it.

    A folder of this machine can be deleted while ZenML still remembers what was in it: each such store has an identity
    of its own, which goes with it.
    """
    store = Client().active_stack.artifact_store
    return f"{code_version()} {_store_identity(Path(store.path)) if store.config.is_local else store.path}"


def validation_identity() -> str:
    """Return what a cached validation depends on beside its inputs: as `cache_identity`, and who validates.

    Without a validator the step runs, and says so: ZenML hides what a function of a cache key raises.
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
            path.hardlink_to(file.name)  # unlike a rename, this never replaces what another process has just made
        except FileExistsError:
            pass
        finally:
            Path(file.name).unlink()
    return path.read_text(encoding="utf-8")
