"""Read stack files: one strict YAML per stack, with ``${VARIABLE}`` and ``${VARIABLE:-default}`` from the environment.

``extends: NAME`` includes another file; entries of this file replace its components, steps, secrets and connectors.
"""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from stacks.steps import DEFAULT, StepSpec, check_step_names
from visionops.errors import StackError
from visionops.home import visionops_home
from visionops.schema_words import describe_expectation
from visionops.suggestions import nearest_names, suggest_variable

__all__ = [
    "REFERENCE",
    "ComponentSpec",
    "ComponentType",
    "ConnectorSpec",
    "FlavorSpec",
    "StackSpec",
    "known_stacks",
    "load_stack",
    "unknown_stack",
    "unset_variables",
    "visionops_home",
]

_FOLDER = Path(__file__).resolve().parent
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
REFERENCE = re.compile(r"\{\{\s*([\w-]+)\.([\w-]+)\s*\}\}")
"""Reference to a key of one of ZenML's secrets."""
_NAME = r"^[a-z][a-z0-9_-]*$"
_Name = Annotated[str, StringConstraints(pattern=_NAME)]


class ComponentType(enum.StrEnum):
    """Component types that our stacks use, with ZenML's names."""

    ORCHESTRATOR = "orchestrator"
    ARTIFACT_STORE = "artifact_store"
    EXPERIMENT_TRACKER = "experiment_tracker"
    MODEL_REGISTRY = "model_registry"
    MODEL_DEPLOYER = "model_deployer"
    STEP_OPERATOR = "step_operator"
    CONTAINER_REGISTRY = "container_registry"
    IMAGE_BUILDER = "image_builder"
    ALERTER = "alerter"
    DATA_VALIDATOR = "data_validator"
    ANNOTATOR = "annotator"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class FlavorSpec(_Strict):
    """One of our flavors."""

    type: ComponentType
    source: str = Field(pattern=r"^[a-z_][\w.]*\.[A-Z]\w*$")
    """Import path of the flavor class."""


class ComponentSpec(_Strict):
    """One component."""

    name: str = Field(pattern=_NAME)
    flavor: str
    configuration: dict[str, Any] = Field(default_factory=dict)
    connector: str = ""
    """Name of an entry of `connectors` that the component connects through."""


class ConnectorSpec(_Strict):
    """One of ZenML's service connectors."""

    type: str
    """kubernetes or docker, or another type whose library is installed."""
    auth_method: str
    resource_id: str = ""
    """Resource that it connects to, if its type has several."""
    configuration: dict[str, SecretStr] = Field(default_factory=dict)

    @field_validator("configuration", mode="before")
    @classmethod
    def _as_text(cls, configuration: Any) -> Any:
        return _texts(configuration)


class StackSpec(_Strict):
    """One stack."""

    name: str = Field(pattern=_NAME)
    flavors: tuple[FlavorSpec, ...] = ()
    secrets: dict[_Name, dict[str, SecretStr]] = Field(default_factory=dict)
    """ZenML's secrets; ``{{name.key}}`` in a component's settings refers to their values."""
    connectors: dict[_Name, ConnectorSpec] = Field(default_factory=dict)
    components: dict[ComponentType, ComponentSpec]
    steps: dict[str, StepSpec] = Field(default_factory=dict)
    """Settings of each step if steps run in containers; ignored elsewhere."""

    @field_validator("secrets", mode="before")
    @classmethod
    def _as_text(cls, secrets: Any) -> Any:
        return {name: _texts(held) for name, held in secrets.items()} if isinstance(secrets, dict) else secrets

    @field_validator("steps")
    @classmethod
    def _known(cls, steps: dict[str, StepSpec]) -> dict[str, StepSpec]:
        check_step_names(steps)
        return steps

    @model_validator(mode="after")
    def _operated(self) -> StackSpec:
        asks = [name for name, step in self.steps.items() if step.step_operator]
        if asks and ComponentType.STEP_OPERATOR not in self.components:
            raise ValueError(
                f"steps.{asks[0]}.step_operator: the stack has no component step_operator; add one, or remove this"
            )
        return self

    @model_validator(mode="after")
    def _connected(self) -> StackSpec:
        for kind, component in self.components.items():
            if component.connector and component.connector not in self.connectors:
                raise ValueError(f"components.{kind}.connector: {component.connector!r} is missing from connectors")
            for text in _strings(component.configuration):
                for name, key in REFERENCE.findall(text):
                    if name in self.secrets and key not in self.secrets[name]:
                        raise ValueError(f"components.{kind}: {{{{{name}.{key}}}}}: secret {name} has no key {key}")
        return self

    def step(self, name: str) -> StepSpec:
        """Return the settings of the step ``name``: its own over those of `default`."""
        default = self.steps.get(DEFAULT, StepSpec())
        return self.steps[name].over(default) if name in self.steps else default


def known_stacks() -> list[str]:
    """Return the names of the stack files."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def unknown_stack(name: str) -> StackError:
    """Return the error about a name that no stack has, with the nearest one."""
    near = "".join(f"did you mean {found!r}? " for found in nearest_names(name, known_stacks()))
    return StackError(f"stack {name!r}: unknown; {near}choose one of {', '.join(known_stacks())}")


def load_stack(name: str, environment: Mapping[str, str] = os.environ) -> StackSpec:
    """Read ``stacks/<name>.yaml``.

    Args:
        environment: Values of ``${VARIABLE}``; ``VISIONOPS_HOME`` has a default.

    Raises:
        StackError: The stack is unknown, its file is invalid, or a variable is not set.
    """
    return read_stack(_path(name), environment)


def unset_variables(name: str, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the variables that ``stacks/<name>.yaml`` needs and the environment lacks, in the order of the file.

    Raises:
        StackError: The stack is unknown, or its file is not valid YAML.
    """
    return _unset(_raw(_path(name)), environment)


def read_stack(path: Path, environment: Mapping[str, str]) -> StackSpec:
    """Read a stack file.

    Raises:
        StackError: As `load_stack`.
    """
    raw = _raw(path)
    if unset := _unset(raw, environment):
        others = {name: value for name, value in environment.items() if name not in _variables(raw)}
        if len(unset) == 1:
            other = suggest_variable(unset[0], others)
            raise StackError(f"{path}: ${{{unset[0]}}} is not set; set the environment variable {unset[0]}{other}")
        other = next(filter(None, (suggest_variable(name, others) for name in unset)), "")
        raise StackError(
            f"{path}: {len(unset)} variables are not set; set in the environment: {', '.join(unset)}{other}"
        )
    try:
        spec = StackSpec.model_validate(_fill(raw, _values(environment)))
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"{part}." for part in first["loc"])[:-1]
        says = describe_expectation(first)
        raise StackError(f"{path}: {place}: {says}" if place else f"{path}: {says}") from error
    lacks = {ComponentType.ORCHESTRATOR, ComponentType.ARTIFACT_STORE} - set(spec.components)
    if lacks:
        raise StackError(f"{path}: components: missing {', '.join(sorted(lacks))}, which every stack needs")
    return spec


def _path(name: str) -> Path:
    if name not in known_stacks():
        raise unknown_stack(name)
    return _FOLDER / f"{name}.yaml"


def _raw(path: Path) -> Any:
    """Return the file merged over the one that it extends, with variables unfilled."""
    raw = _read(path)
    if not isinstance(raw, dict) or "extends" not in raw:
        return raw
    own = dict(raw)
    base = path.with_name(f"{own.pop('extends')}.yaml")
    if not base.is_file():
        raise StackError(f"{path}: extends: no stack file {base.stem!r} in the same folder")
    under = _read(base)
    if not isinstance(under, dict) or "extends" in under:
        raise StackError(
            f"{path}: extends: cannot extend {base.stem!r}, which extends another file or is not a mapping"
        )
    for section in ("secrets", "connectors", "components", "steps"):
        # Replace whole entries: settings of one flavor are invalid for another.
        own[section] = {**(under.get(section) or {}), **(own.get(section) or {})}
    own["flavors"] = [*(under.get("flavors") or []), *(own.get("flavors") or [])]
    return under | own


def _read(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise StackError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise StackError(f"{path}: cannot be read ({error.strerror})") from error


def _values(environment: Mapping[str, str]) -> dict[str, str]:
    return {**environment, "VISIONOPS_HOME": str(visionops_home())}


def _variables(raw: Any) -> set[str]:
    return {match[1] for text in _strings(raw) for match in _VARIABLE.finditer(text)}


def _unset(raw: Any, environment: Mapping[str, str]) -> list[str]:
    values, unset = _values(environment), dict[str, None]()
    for text in _strings(raw):
        for match in _VARIABLE.finditer(text):
            name, default = match.groups()
            if default is None and name not in values:
                unset[name] = None
    return list(unset)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def _texts(values: Any) -> Any:
    """Return values as text, as ZenML stores switches and numbers."""
    if not isinstance(values, dict):
        return values
    return {
        k: str(v).lower() if isinstance(v, bool) else str(v) if isinstance(v, int) else v for k, v in values.items()
    }


def _fill(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _fill(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, variables) for item in value]
    if not isinstance(value, str):
        return value

    def look_up(match: re.Match[str]) -> str:
        name, default = match.groups()
        if default is not None:
            return variables.get(name) or default  # like a shell, use the default for an empty variable as well
        return variables[name]

    filled = _VARIABLE.sub(look_up, value)
    # Turn "true" and "false" into booleans, because every non-empty text is true.
    return filled == "true" if filled != value and filled in {"true", "false"} else filled
