"""Define the `steps` section of a stack file: settings of each step when steps run in containers.

    steps:
      default: {image: registry/pipeline:1, cpu: 1, memory: 4Gi}
      train: {gpu: 1, memory: 16Gi, timeout: 86400}

`default` applies to every step, and a step's own settings override it. `orchestrator` is the pod that starts the
others, if the orchestrator has one. These settings are not part of a cache key: more memory does not run a step again.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from stacks.deployers.manifests.settings import Toleration
from visionops.suggestions import suggest_name

__all__ = [
    "DEFAULT",
    "ORCHESTRATOR",
    "EnvFrom",
    "NamedObject",
    "Scratch",
    "StepSpec",
    "check_step_names",
    "known_steps",
]

DEFAULT = "default"
ORCHESTRATOR = "orchestrator"
_STEPS = Path(__file__).resolve().parents[1] / "steps"
_JOINED = ("environment", "node_selector")
"""Mappings whose entries are merged with those of the default instead of replacing them."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class NamedObject(_Strict):
    """Name of a Secret or a ConfigMap of the namespace."""

    name: str = Field(min_length=1)
    optional: bool = False


class EnvFrom(_Strict):
    """Environment variables from a Secret or a ConfigMap, with Kubernetes' field names."""

    secretRef: NamedObject | None = None  # noqa: N815
    configMapRef: NamedObject | None = None  # noqa: N815

    @model_validator(mode="after")
    def _one(self) -> EnvFrom:
        if (self.secretRef is None) == (self.configMapRef is None):
            raise ValueError("set either secretRef or configMapRef")
        return self


class Scratch(_Strict):
    """Volume for the images that a step's pod fetches once from the artifact store and then reads."""

    size: str = Field(default="20Gi", pattern=r"^[1-9]\d*(Mi|Gi|Ti)$")
    storage_class: str = ""
    """Storage class of a new volume for each pod; "" uses the node's disk."""
    claim: str = ""
    """Existing PersistentVolumeClaim, shared by all pods that name it, so that each image is fetched only once.
    Pods on several nodes need one of access mode ReadWriteMany."""

    @model_validator(mode="after")
    def _agree(self) -> Scratch:
        if self.claim and self.storage_class:
            raise ValueError("set either claim or storage_class, not both")
        return self


class StepSpec(_Strict):
    """Settings of one step; unset fields take the default's values."""

    image: str = ""
    """Pipeline image, with tag or digest; training on GPUs needs the GPU variant."""
    cpu: float | None = Field(default=None, gt=0)
    """Reserved cores; the step may also use idle ones."""
    memory: str | None = Field(default=None, pattern=r"^[1-9]\d*(Mi|Gi|Ti)$")
    """Memory, as both request and limit."""
    gpu: int | None = Field(default=None, ge=0)
    gpu_resource: str = "nvidia.com/gpu"
    """Kubernetes resource name of a GPU."""
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    environment: dict[str, str] = {}
    """Environment variables; empty ones are left out."""
    env_from: tuple[EnvFrom, ...] = ()
    """Sources of environment variables; those with an empty name are left out."""
    image_pull_secrets: tuple[str, ...] = ()
    run_as: int | None = Field(default=10001, ge=1)
    """User and group id of the pod; null lets the cluster choose, as OpenShift does."""
    scratch: Scratch | None = None
    timeout: int | None = Field(default=None, ge=1)
    """Time limit in seconds from the start of the first pod, including retries."""
    retries: int = Field(default=0, ge=0)
    """Number of retries after a failure."""
    step_operator: bool = False
    """Whether the stack's step operator runs the step."""

    @field_validator("cpu", "memory", "gpu", "timeout", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return None if value == "" else value  # from an unset variable

    @field_validator("env_from", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        return [source for source in value if not _is_unnamed(source)]

    def over(self, default: StepSpec) -> StepSpec:
        """Return these settings over the default's."""
        own = {name: getattr(self, name) for name in self.model_fields_set}
        if not self.image:
            own.pop("image", None)
        for name in _JOINED:
            own[name] = getattr(default, name) | getattr(self, name)
        return default.model_copy(update=own)


def _is_unnamed(source: Any) -> bool:
    """Return whether its name comes from an unset variable."""
    return isinstance(source, dict) and any(
        isinstance(named, dict) and named.get("name") == "" for named in source.values()
    )


def known_steps() -> frozenset[str]:
    """Return the names of all steps, read from the sources because importing them takes seconds."""
    return _steps_of(_STEPS)


def check_step_names(names: Mapping[str, Any]) -> None:
    """Check that the keys of a `steps` section are steps.

    Raises:
        ValueError: A name is unknown; the message suggests a similar one.
    """
    known = known_steps() | {DEFAULT, ORCHESTRATOR}
    for name in names:
        if name not in known:
            raise ValueError(f"{name}: unknown step; {suggest_name(name, sorted(known))}")


@functools.cache
def _steps_of(folder: Path) -> frozenset[str]:
    names = set()
    for path in folder.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and any(_is_step(d) for d in node.decorator_list):
                names.add(node.name)
    return frozenset(names)


def _is_step(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(called, ast.Name) and called.id == "step"
