"""The data validator of the active stack, which plays two roles: ZenML takes one a stack."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any

from visionops.errors import StackError

__all__ = ["ValidatorRole", "active_validator", "plays", "require_roles"]


class ValidatorRole(enum.StrEnum):
    """What a step needs a data validator for."""

    IMAGES = "validates no images"
    DRIFT = "looks for no drift"


_METHODS = {
    ValidatorRole.IMAGES: ("identity", "inspect_images", "judge_images"),
    ValidatorRole.DRIFT: ("look_for_drift",),
}
"""By which a component plays a role: `ImageValidator` and `DriftValidator`."""
_ROLE_OF = {
    "validate_data": ValidatorRole.IMAGES,
    "validate_shard": ValidatorRole.IMAGES,
    "join_validation": ValidatorRole.IMAGES,
    "prepare": ValidatorRole.IMAGES,
    "compare_traffic": ValidatorRole.DRIFT,
}
"""By the name of a step."""


def active_validator(role: ValidatorRole) -> Any:
    """Return the data validator of the active stack.

    Raises:
        StackError: The stack has none, or one that does not play this role.
    """
    from zenml.client import Client

    stack = Client().active_stack
    found = stack.data_validator
    if found is None:
        raise StackError(
            f"stack {stack.name!r}: has no data validator; add that of another stack with zenml stack update "
            f"{stack.name} -dv local, after visionops stack apply local"
        )
    if not plays(type(found), role):
        raise StackError(
            f"stack {stack.name!r}: its data validator {found.name!r} of flavor {found.flavor} {role}; use one of "
            "flavor visionops_evidently, or a subclass of ours (docs/how-to/own-validator.md)"
        )
    return found


def plays(component: type, role: ValidatorRole) -> bool:
    """Return whether a class of data validators plays a role."""
    return all(hasattr(component, name) for name in _METHODS[role])


def require_roles(steps: Iterable[str]) -> None:
    """See before a run that the active stack validates what its steps will ask for.

    Args:
        steps: Names of the steps.

    Raises:
        StackError: As `active_validator`.
    """
    for role in dict.fromkeys(_ROLE_OF[name] for name in steps if name in _ROLE_OF):
        active_validator(role)
