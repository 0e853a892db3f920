"""Stack files: one YAML per stack, strict, with ``${VARIABLE}`` and ``${VARIABLE:-default}`` from the environment."""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from visionops.errors import StackError
from visionops.home import visionops_home

__all__ = ["ComponentSpec", "ComponentType", "FlavorSpec", "StackSpec", "known_stacks", "load_stack", "visionops_home"]

_FOLDER = Path(__file__).resolve().parent
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_NAME = r"^[a-z][a-z0-9_-]*$"


class ComponentType(enum.StrEnum):
    """The component types that our stacks use; ZenML's own names."""

    ORCHESTRATOR = "orchestrator"
    ARTIFACT_STORE = "artifact_store"
    EXPERIMENT_TRACKER = "experiment_tracker"
    MODEL_REGISTRY = "model_registry"
    MODEL_DEPLOYER = "model_deployer"
    STEP_OPERATOR = "step_operator"
    CONTAINER_REGISTRY = "container_registry"
    IMAGE_BUILDER = "image_builder"
    ALERTER = "alerter"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class FlavorSpec(_Strict):
    """A flavor of our own."""

    type: ComponentType
    source: str = Field(pattern=r"^[a-z_][\w.]*\.[A-Z]\w*$")
    """Import path of the flavor class."""


class ComponentSpec(_Strict):
    """One component."""

    name: str = Field(pattern=_NAME)
    flavor: str
    configuration: dict[str, Any] = Field(default_factory=dict)


class StackSpec(_Strict):
    """One stack."""

    name: str = Field(pattern=_NAME)
    flavors: tuple[FlavorSpec, ...] = ()
    components: dict[ComponentType, ComponentSpec]


def known_stacks() -> list[str]:
    """Names of the stacks that `apply` knows."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load_stack(name: str, environment: Mapping[str, str] = os.environ) -> StackSpec:
    """Read ``stacks/<name>.yaml``.

    Args:
        environment: Fills ``${VARIABLE}``; ``VISIONOPS_HOME`` has a default.

    Raises:
        StackError: No such stack, a bad file, or a variable that is not set.
    """
    path = _FOLDER / f"{name}.yaml"
    if name not in known_stacks():
        raise StackError(f"stack {name!r}: not known; choose one of {', '.join(known_stacks())}")
    return read_stack(path, environment)


def read_stack(path: Path, environment: Mapping[str, str]) -> StackSpec:
    """Read a stack file.

    Raises:
        StackError: As `load_stack`.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise StackError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise StackError(f"{path}: cannot be read ({error.strerror})") from error
    values = {**environment, "VISIONOPS_HOME": str(visionops_home())}
    try:
        spec = StackSpec.model_validate(_fill(raw, values, path))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise StackError(f"{path}: {place}: {first['msg']}") from error
    missing = {ComponentType.ORCHESTRATOR, ComponentType.ARTIFACT_STORE} - set(spec.components)
    if missing:
        raise StackError(f"{path}: components: lacks {', '.join(sorted(missing))}, which every stack needs")
    return spec


def _fill(value: Any, variables: Mapping[str, str], path: Path) -> Any:
    if isinstance(value, dict):
        return {key: _fill(item, variables, path) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, variables, path) for item in value]
    if not isinstance(value, str):
        return value

    def look_up(match: re.Match[str]) -> str:
        name, default = match.groups()
        if default is not None:
            return variables.get(name) or default  # as a shell does: a variable that is empty has the default, too
        try:
            return variables[name]
        except KeyError as error:
            raise StackError(f"{path}: ${{{name}}} is not set; set the environment variable {name}") from error

    return _VARIABLE.sub(look_up, value)
