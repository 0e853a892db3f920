"""Select the checks for each component of a stack and run them in parallel."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from pydantic import ValidationError

from stacks.doctor.airflow import check_airflow_on_this_machine
from stacks.doctor.alerting import check_alertmanager, check_pushgateway
from stacks.doctor.annotators import check_label_studio, check_label_studio_sdk, check_review_annotator
from stacks.doctor.cluster import (
    check_airflow_orchestrator,
    check_bundle_store,
    check_cluster_deployer,
    check_kubernetes_orchestrator,
    check_serving_image,
    check_step_images,
)
from stacks.doctor.findings import Check, CheckResult, Examined, State, broken, of_error, ok, warning
from stacks.doctor.machine import (
    check_artifact_folder,
    check_container_deployer,
    check_image_builder,
    check_local_deployer,
    check_local_orchestrator,
)
from stacks.doctor.registries import check_container_registry
from stacks.doctor.s3 import check_s3_store
from stacks.doctor.server import (
    check_applied,
    check_reach,
    check_server_for_pods,
    check_zenml,
    registered_stack,
    with_secrets,
)
from stacks.doctor.trackers import check_trackio, check_unknown_tracker, check_wandb
from stacks.doctor.tracking import check_registry, check_tracker
from stacks.doctor.validators import check_evidently, check_images, check_own_validator, lacks_validator
from stacks.paths import require_usable_paths
from stacks.spec import ComponentSpec, ComponentType, StackSpec, known_stacks, load_stack, unset_variables
from stacks.zenml_server import active_stack_name, require_zenml_server
from visionops.errors import StackError, VisionOpsError

__all__ = ["Diagnosis", "Row", "diagnose"]

_PATIENCE_S = 30.0
"""Seconds that all checks of a row may take together; each request in them has a shorter timeout."""
_ANY = ""
_LOGIN = re.compile(r"//[^/@\s]+@")
_Look = Callable[[], Iterator[CheckResult]]
_CLUSTER_DEPLOYER = (check_cluster_deployer, check_serving_image, check_bundle_store)
_CHECKS: dict[tuple[ComponentType, str], tuple[Check, ...]] = {
    (ComponentType.ORCHESTRATOR, "local"): (check_local_orchestrator,),
    (ComponentType.ORCHESTRATOR, "kubernetes"): (check_kubernetes_orchestrator, check_step_images),
    (ComponentType.ORCHESTRATOR, "airflow"): (check_airflow_orchestrator, check_step_images),
    (ComponentType.ORCHESTRATOR, "visionops_airflow"): (check_airflow_on_this_machine,),
    (ComponentType.STEP_OPERATOR, "kubernetes"): (check_kubernetes_orchestrator,),
    (ComponentType.ARTIFACT_STORE, "local"): (check_artifact_folder,),
    (ComponentType.ARTIFACT_STORE, "s3"): (check_s3_store,),
    (ComponentType.EXPERIMENT_TRACKER, "mlflow"): (check_tracker,),
    (ComponentType.EXPERIMENT_TRACKER, "trackio"): (check_trackio,),
    (ComponentType.EXPERIMENT_TRACKER, "wandb"): (check_wandb,),
    (ComponentType.EXPERIMENT_TRACKER, _ANY): (check_unknown_tracker,),
    (ComponentType.MODEL_REGISTRY, "mlflow"): (check_registry,),
    (ComponentType.MODEL_REGISTRY, "visionops_mlflow"): (check_registry,),
    (ComponentType.MODEL_DEPLOYER, "visionops_local"): (check_local_deployer,),
    (ComponentType.MODEL_DEPLOYER, "visionops_container"): (check_container_deployer,),
    (ComponentType.MODEL_DEPLOYER, "visionops_kubernetes"): _CLUSTER_DEPLOYER,
    (ComponentType.MODEL_DEPLOYER, "visionops_seldon"): _CLUSTER_DEPLOYER,
    (ComponentType.MODEL_DEPLOYER, "visionops_kserve"): _CLUSTER_DEPLOYER,
    (ComponentType.CONTAINER_REGISTRY, _ANY): (check_container_registry,),
    (ComponentType.IMAGE_BUILDER, "local"): (check_image_builder,),
    (ComponentType.ALERTER, "visionops_alertmanager"): (check_alertmanager, check_pushgateway),
    (ComponentType.DATA_VALIDATOR, "visionops_images"): (check_images,),
    (ComponentType.DATA_VALIDATOR, "visionops_evidently"): (check_evidently,),
    (ComponentType.DATA_VALIDATOR, _ANY): (check_own_validator,),
    (ComponentType.ANNOTATOR, "visionops_review"): (check_review_annotator,),
    (ComponentType.ANNOTATOR, "label_studio"): (check_label_studio, check_label_studio_sdk),
}
"""Checks by component type and flavor; each runs in its own thread."""
_LIBRARIES = {
    "s3": (("s3fs", "boto3"), "s3"),
    "kubernetes": (("kubernetes",), "kubernetes"),
    "visionops_kubernetes": (("kubernetes", "boto3"), "kubernetes,s3"),
    "visionops_seldon": (("kubernetes", "boto3"), "kubernetes,s3"),
    "visionops_kserve": (("kubernetes", "boto3"), "kubernetes,s3"),
    "mlflow": (("mlflow",), "pipelines"),
    "visionops_mlflow": (("mlflow",), "pipelines"),
    "trackio": (("trackio",), "trackio"),
    "wandb": (("wandb",), "wandb"),
    "visionops_evidently": (("evidently",), "drift"),
}
"""Libraries that a flavor imports, and the extra of ours that installs them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A component, the stack file or ZenML itself, with its findings."""

    what: str
    flavor: str
    findings: tuple[CheckResult, ...]

    @property
    def state(self) -> State:
        """Worst state among the findings."""
        return max((finding.state for finding in self.findings), key=list(State).index, default=State.OK)


@dataclasses.dataclass(frozen=True, slots=True)
class Diagnosis:
    """Rows of a stack's check, in order, and the seconds that it took."""

    stack: str
    rows: tuple[Row, ...]
    seconds: float

    def count(self, state: State) -> int:
        """Return the number of rows in this state."""
        return sum(row.state is state for row in self.rows)


def diagnose(name: str | None = None) -> Diagnosis:
    """Check every component of a stack.

    Args:
        name: Name of a stack file or of a stack in ZenML; None is the active one, or `local`.

    Raises:
        StackError: The stack is unknown, or its file is invalid.
    """
    require_usable_paths()
    began = time.monotonic()
    # The import takes seconds, which no check should pay for, and parallel imports may see it half loaded.
    import zenml.client  # noqa: F401

    name = name or _active_stack()
    unset: list[str] = []
    if name in known_stacks():
        unset = unset_variables(name)
        spec = _load(name, unset)
    else:
        spec = registered_stack(name)
    (server,) = _all_at_once([("zenml", "", [check_zenml])])
    rows = [server]
    if unset:
        said = "a variable is" if len(unset) == 1 else f"{len(unset)} variables are"
        finding = broken(f"{said} not set", f"set in the environment: {', '.join(unset)}")
        rows.append(Row("stack file", "", (finding,)))
    elif server.state is not State.BROKEN and name in known_stacks():
        rows += _all_at_once([("stack file", "", [lambda: check_applied(name)])])
    tasks = [
        (kind.value.replace("_", " "), component.flavor, _looks(kind, component, spec, unset))
        for kind, component in spec.components.items()
    ]
    found = _all_at_once(tasks)
    if ComponentType.DATA_VALIDATOR not in spec.components:
        found.append(Row("data validator", "", (lacks_validator(name, has_file=name in known_stacks()),)))
    return Diagnosis(name, (*rows, *found), time.monotonic() - began)


def _load(name: str, unset: Sequence[str]) -> StackSpec:
    """Load a stack file whose unset variables stay as references, so that the other components can be checked."""
    try:
        return load_stack(name, {**os.environ, **{variable: f"${{{variable}}}" for variable in unset}})
    except StackError:
        return load_stack(name)  # a reference in place of a number is invalid; this error lists all unset variables


def _active_stack() -> str:
    try:
        require_zenml_server()
    except StackError as error:
        raise StackError(f"{error}; or name the stack: visionops stack doctor NAME") from error
    return active_stack_name()


def _looks(kind: ComponentType, component: ComponentSpec, stack: StackSpec, unset: Sequence[str]) -> list[_Look]:
    texts = list(_texts([component.configuration, _beside(kind, stack)]))
    if lacking := [variable for variable in unset if any(f"${{{variable}}}" in text for text in texts)]:
        return [lambda: iter([warning(f"not checked: {', '.join(lacking)} not set", "")])]
    libraries, extra = _LIBRARIES.get(component.flavor, ((), ""))
    if absent := [library for library in libraries if find_spec(library) is None]:
        fix = f"pip install 'visionops[{extra}]'"
        return [lambda: iter([broken(f"{' and '.join(absent)}: not installed", fix)])]
    checks = _CHECKS.get((kind, component.flavor)) or _CHECKS.get((kind, _ANY))
    if checks is None:
        return [lambda: iter([ok("no checks exist for this flavor")])]

    def reach() -> Iterator[CheckResult]:
        if not Examined(component, stack).is_remote:
            return
        if kind is ComponentType.ORCHESTRATOR:
            yield from check_server_for_pods()
        yield from check_reach(texts if kind is ComponentType.ORCHESTRATOR else _texts(component.configuration))

    return [reach, *(functools.partial(_examine, check, component, stack) for check in checks)]


def _examine(check: Check, component: ComponentSpec, stack: StackSpec) -> Iterator[CheckResult]:
    yield from check(Examined(with_secrets(component, stack.secrets), stack))


def _beside(kind: ComponentType, stack: StackSpec) -> Any:
    """Return the settings outside a component that it also uses."""
    if kind is ComponentType.MODEL_REGISTRY and (tracker := stack.components.get(ComponentType.EXPERIMENT_TRACKER)):
        return tracker.configuration
    if kind is ComponentType.ORCHESTRATOR:
        return [step.model_dump() for step in stack.steps.values()]
    return ()


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _all_at_once(tasks: Sequence[tuple[str, str, Sequence[_Look]]]) -> list[Row]:
    """Run each check in a thread and wait at most `_PATIENCE_S` seconds for all of them."""
    started = []
    for what, flavor, looks in tasks:
        found: list[tuple[threading.Thread, list[CheckResult]]] = []
        for look in looks:
            findings: list[CheckResult] = []
            thread = threading.Thread(target=_collect, args=(look, findings), daemon=True)
            thread.start()
            found.append((thread, findings))
        started.append((what, flavor, found))
    deadline = time.monotonic() + _PATIENCE_S
    rows = []
    for what, flavor, found in started:
        seen: dict[CheckResult, None] = {}  # two checks may find the same problem: list it once
        for thread, findings in found:
            thread.join(max(0.0, deadline - time.monotonic()))
            seen |= dict.fromkeys(map(_without_login, list(findings)))
            if thread.is_alive():
                seen[
                    broken(
                        f"no answer in {_PATIENCE_S:.0f} s", "check that the service runs and the network reaches it"
                    )
                ] = None
        rows.append(Row(what, flavor, tuple(seen)))
    return rows


def _without_login(finding: CheckResult) -> CheckResult:
    """Return the finding with logins removed from its URLs."""
    observed, fix = (_LOGIN.sub("//…@", text) for text in (finding.observed, finding.fix))
    return dataclasses.replace(finding, observed=observed, fix=fix)


def _collect(look: _Look, findings: list[CheckResult]) -> None:
    try:
        for finding in look():
            findings.append(finding)  # noqa: PERF402 - keep the findings before an error
    except VisionOpsError as error:
        findings.append(of_error(error))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        findings.append(broken(f"setting {place}: {first['msg']}", "correct it in the stack file"))
    except Exception as error:  # noqa: BLE001 - one check that fails must not hide the others
        said = (str(error).splitlines() or [""])[0][:200]
        findings.append(broken(f"check failed ({type(error).__name__}: {said})", "fix the cause named here"))
