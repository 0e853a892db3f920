"""What each step is given where steps run in containers: the `steps` section of a stack file.

    steps:
      default: {image: registry/pipeline:1, cpu: 1, memory: 4Gi}
      train: {gpu: 1, memory: 16Gi, timeout: 86400}

`default` holds for every step; a step's own words come on top of it. `orchestrator` is the pod that starts the others,
where the orchestrator has one. Nothing here is part of a cache key: a step that
is given more memory is not run again.
"""

from __future__ import annotations

import ast
import difflib
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from stacks.deployers.manifests.settings import Toleration

__all__ = ["DEFAULT", "ORCHESTRATOR", "EnvFrom", "Named", "Scratch", "StepSpec", "check_step_names", "known_steps"]

DEFAULT = "default"
ORCHESTRATOR = "orchestrator"
_STEPS = Path(__file__).resolve().parents[1] / "steps"
_JOINED = ("environment", "node_selector")
"""A step's entries join those of the default, rather than take their place."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Named(_Strict):
    """A Secret or a ConfigMap of the namespace."""

    name: str = Field(min_length=1)
    optional: bool = False


class EnvFrom(_Strict):
    """Environment variables from a Secret or a ConfigMap; Kubernetes' own names."""

    secretRef: Named | None = None  # noqa: N815
    configMapRef: Named | None = None  # noqa: N815

    @model_validator(mode="after")
    def _one(self) -> EnvFrom:
        if (self.secretRef is None) == (self.configMapRef is None):
            raise ValueError("needs either secretRef or configMapRef")
        return self


class Scratch(_Strict):
    """Where a step's pod keeps the images that it reads: fetched from the artifact store once, then read from here."""

    size: str = Field(default="20Gi", pattern=r"^[1-9]\d*(Mi|Gi|Ti)$")
    storage_class: str = ""
    """A volume of its own for each pod, of this class; without one it lies on the node's disk."""
    claim: str = ""
    """A PersistentVolumeClaim that there is, shared by all pods that name it: what one has fetched, none fetches again.
    Pods on several nodes need one of access mode ReadWriteMany."""

    @model_validator(mode="after")
    def _agree(self) -> Scratch:
        if self.claim and self.storage_class:
            raise ValueError("has both claim and storage_class; a claim has its class already")
        return self


class StepSpec(_Strict):
    """What one step is given. Where it says nothing, the default's words hold."""

    image: str = ""
    """Of the pipeline, with tag or digest; training on GPUs needs the variant for them."""
    cpu: float | None = Field(default=None, gt=0)
    """Cores that are kept for it; it may use what is idle beyond."""
    memory: str | None = Field(default=None, pattern=r"^[1-9]\d*(Mi|Gi|Ti)$")
    """Kept for it, and at the same time the most it may take."""
    gpu: int | None = Field(default=None, ge=0)
    gpu_resource: str = "nvidia.com/gpu"
    """How the nodes name a GPU."""
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    environment: dict[str, str] = {}
    """Those that are empty are left out."""
    env_from: tuple[EnvFrom, ...] = ()
    """Those whose name is empty are left out."""
    image_pull_secrets: tuple[str, ...] = ()
    run_as: int | None = Field(default=10001, ge=1)
    """User and group of the pod; null where the cluster chooses them, as OpenShift does."""
    scratch: Scratch | None = None
    timeout: int | None = Field(default=None, ge=1)
    """Seconds from the start of its first pod until it is ended, tries after failures included."""
    retries: int = Field(default=0, ge=0)
    """How often it is tried again after it failed."""
    step_operator: bool = False
    """It runs where the stack's step operator runs it."""

    @field_validator("cpu", "memory", "gpu", "timeout", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return None if value == "" else value  # of a variable that is not set

    @field_validator("env_from", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        return [source for source in value if not _is_unnamed(source)]

    def over(self, default: StepSpec) -> StepSpec:
        """These words on top of the default's."""
        own = {name: getattr(self, name) for name in self.model_fields_set}
        if not self.image:
            own.pop("image", None)
        for name in _JOINED:
            own[name] = getattr(default, name) | getattr(self, name)
        return default.model_copy(update=own)


def _is_unnamed(source: Any) -> bool:
    """Whether its name is a variable that is not set."""
    return isinstance(source, dict) and any(
        isinstance(named, dict) and named.get("name") == "" for named in source.values()
    )


def known_steps() -> frozenset[str]:
    """Names of all steps there are, read from the sources: importing them would take seconds."""
    return _steps_of(_STEPS)


def check_step_names(names: Mapping[str, Any]) -> None:
    """See that the keys of a `steps` section are steps.

    Raises:
        ValueError: One is not; says which one is near.
    """
    known = known_steps() | {DEFAULT, ORCHESTRATOR}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            raise ValueError(f"{name}: no such step" + (f"; did you mean {near[0]}?" if near else ""))


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
