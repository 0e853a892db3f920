"""Check data validators."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stacks.doctor.findings import CheckResult, Examined, broken, ok, warning
from stacks.doctor.machine import check_folder
from stacks.doctor.web import ask
from stacks.spec import ComponentType
from stacks.validators.active import ValidatorRole, has_role
from visionops.errors import StackError
from visionops.home import visionops_home

__all__ = ["check_evidently", "check_images", "check_own_validator", "lacks_validator"]

_SERIES = "0.7."
"""Prefix of the Evidently versions that our code supports."""
_APPLICATION = "Evidently"
"""Name in the answer of Evidently's server."""


def lacks_validator(stack: str, *, has_file: bool) -> CheckResult:
    """Report a stack without a data validator."""
    fix = (
        f"add components.data_validator of flavor visionops_evidently to stacks/{stack}.yaml"
        if has_file
        else f"visionops stack apply local, then zenml stack update {stack} -dv local"
    )
    return broken("missing from the stack: nothing validates images or looks for drift", fix)


def check_images(examined: Examined) -> Iterator[CheckResult]:
    """Report that our own checks need no service."""
    del examined
    yield ok("validates images and labels; looks for drift by our tests, without Evidently")


def check_evidently(examined: Examined) -> Iterator[CheckResult]:
    """Check Evidently's version, and its workspace: a server, or a folder."""
    found = version("evidently")
    if found.startswith(_SERIES):
        yield ok(f"Evidently {found}")
    else:
        yield broken(f"Evidently {found}: another series than {_SERIES}x", "pip install 'visionops[drift]'")
    workspace = str(examined.component.configuration.get("workspace") or "")
    if workspace.startswith(("http://", "https://")):
        yield from _check_server(workspace)
        return
    if examined.is_remote:
        yield warning(
            "a folder, but steps run elsewhere: snapshots are lost with their pods",
            "set VISIONOPS_EVIDENTLY to the URL of Evidently's server",
        )
    yield from check_folder(Path(workspace) if workspace else visionops_home() / "evidently", "snapshots")


def _check_server(url: str) -> Iterator[CheckResult]:
    start = "start it with `evidently ui`, or set VISIONOPS_EVIDENTLY to a running server"
    try:
        answer = ask(f"{url.rstrip('/')}/api/version")
    except StackError as error:
        yield broken(f"{url}: Evidently does not answer ({error})", start)
        return
    if answer.status_code in {401, 403}:
        yield broken(f"{url}: refuses the key ({answer.status_code})", "set EVIDENTLY_SECRET to the server's key")
    elif not answer.ok or _APPLICATION not in answer.text:
        yield broken(f"{url}: answers, but is not Evidently ({answer.status_code})", start)
    else:
        yield ok(f"{url}: Evidently's server answers")


def check_own_validator(examined: Examined) -> Iterator[CheckResult]:
    """Import a validator that is not ours, and check which roles it plays."""
    component = _implementation(examined)
    if not has_role(component, ValidatorRole.IMAGES):
        yield broken(
            f"{component.__name__} {ValidatorRole.IMAGES}",
            "use flavor visionops_evidently, or a subclass of our validators",
        )
        return
    yield ok(f"{component.__name__} validates images and labels")
    if has_role(component, ValidatorRole.DRIFT):
        yield ok("looks for drift")
    else:
        yield warning(
            f"{component.__name__} {ValidatorRole.DRIFT}: monitoring fails", "make it a subclass of our validators"
        )


def _implementation(examined: Examined) -> type[Any]:
    """Return the class of a component, from the stack file or else from ZenML."""
    from zenml.client import Client
    from zenml.enums import StackComponentType
    from zenml.stack.flavor import Flavor, validate_flavor_source

    kind, wanted = StackComponentType.DATA_VALIDATOR, examined.component.flavor
    try:
        for item in examined.stack.flavors:
            if item.type is ComponentType.DATA_VALIDATOR:
                flavor = validate_flavor_source(item.source, kind)[1]
                if flavor.name == wanted:
                    return _class_of(flavor)
        return _class_of(Flavor.from_model(Client().get_flavor_by_name_and_type(wanted, kind)))
    except (ImportError, KeyError, TypeError, ValueError, NotImplementedError) as error:
        said = (str(error.args[0] if error.args else error).splitlines() or [type(error).__name__])[0]
        raise StackError(
            f"flavor {wanted}: cannot be loaded ({said}); install its package, or put its module next to run.py"
        ) from error


def _class_of(flavor: Any) -> type[Any]:
    """Return the class of a flavor's components; importing it may fail."""
    found: type[Any] = flavor.implementation_class
    return found
