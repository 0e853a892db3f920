"""Find the data validator of the active stack; ZenML allows one per stack, so it plays two roles."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any

from visionops.errors import StackError

__all__ = ["ValidatorRole", "active_validator", "has_role", "require_roles"]


class ValidatorRole(enum.StrEnum):
    """Role of a data validator in a step."""

    IMAGES = "validates no images"
    DRIFT = "looks for no drift"


_METHODS = {
    ValidatorRole.IMAGES: ("identity", "inspect_images", "validate_images"),
    ValidatorRole.DRIFT: ("detect_drift",),
}
"""Methods that a component needs for a role: those of `ImageValidator` and `DriftValidator`."""
_ROLE_OF = {
    "validate_data": ValidatorRole.IMAGES,
    "validate_shard": ValidatorRole.IMAGES,
    "join_validation": ValidatorRole.IMAGES,
    "prepare": ValidatorRole.IMAGES,
    "compare_traffic": ValidatorRole.DRIFT,
}
"""Role that a step needs, by the step's name."""


def active_validator(role: ValidatorRole) -> Any:
    """Return the data validator of the active stack.

    Raises:
        StackError: The stack has no validator, or it does not play this role.
    """
    from zenml.client import Client

    stack = Client().active_stack
    found = stack.data_validator
    if found is None:
        raise StackError(
            f"stack {stack.name!r}: missing data validator; run visionops stack apply local, then zenml stack update "
            f"{stack.name} -dv local"
        )
    if not has_role(type(found), role):
        raise StackError(
            f"stack {stack.name!r}: its data validator {found.name!r} of flavor {found.flavor} {role}; use one of "
            "flavor visionops_evidently, or a subclass of ours (docs/how-to/own-validator.md)"
        )
    return found


def has_role(component: type, role: ValidatorRole) -> bool:
    """Return whether a class of data validators plays a role."""
    return all(hasattr(component, name) for name in _METHODS[role])


def require_roles(steps: Iterable[str]) -> None:
    """Check before a run that the active stack's validator plays the roles that its steps need.

    Args:
        steps: Names of the steps.

    Raises:
        StackError: As `active_validator`.
    """
    for role in dict.fromkeys(_ROLE_OF[name] for name in steps if name in _ROLE_OF):
        active_validator(role)
