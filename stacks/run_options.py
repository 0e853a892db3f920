"""Turn a stack file's `steps` into the ZenML options that a pipeline runs with on that stack."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from stacks.on_worker import ON_WORKER, worker_options
from stacks.review_access import require_review
from stacks.same_code import CODE_VARIABLE, code_digest
from stacks.spec import ComponentType, StackSpec
from stacks.steps import ORCHESTRATOR, Scratch, StepSpec
from visionops.errors import StackError

__all__ = ["IN_THIS_PROCESS", "DagPlan", "pod_settings", "run_options"]

IN_THIS_PROCESS = frozenset({"local"})
"""Orchestrator flavors that run steps in this process: they need no options, and errors of steps reach the caller."""
_SCRATCH = "scratch"
_SCRATCH_PATH = "/scratch"
_VOLUMES: dict[str, tuple[str, dict[str, Any]]] = {
    # HOME and temporary files of libraries; writable for any user that a cluster chooses.
    "cache": ("/cache", {"emptyDir": {}}),
    "tmp": ("/tmp", {"emptyDir": {}}),  # noqa: S108
    # Data loader workers pass images through it, and a container's default has 64 MB.
    "shm": ("/dev/shm", {"emptyDir": {"medium": "Memory"}}),  # noqa: S108
}
_HOME = "VISIONOPS_HOME"
_Options = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class DagPlan:
    """Schedule of a pipeline in Airflow; by default it runs at once and only once."""

    id: str = ""
    """Name of the DAG, which replaces an earlier DAG of this name; "" creates a new DAG each time."""
    is_on_demand: bool = False
    """Whether the DAG runs only when another DAG starts it."""
    after: str = ""
    """Name of a step. When the DAG is done, ``asks`` checks the output of that step and decides whether to start the
    DAG ``starts``."""
    asks: tuple[str, ...] = ()
    starts: str = ""
    use_case: str = ""


def run_options(
    spec: StackSpec, names: Mapping[str, str], dag: DagPlan | None = None, *, reads_review: bool = False
) -> _Options:
    """Return the arguments of a pipeline's `with_options` that apply the stack file's `steps`.

    Args:
        names: Name under which each step runs (`predict_1_of_2`), mapped to the step's own name (`predict_shard`).
        dag: Schedule, for Airflow.
        reads_review: Whether the use case adds people's decisions from the review.

    Returns:
        Empty for an orchestrator that runs steps in its own process.

    Raises:
        StackError: Steps run in containers but no image is set, or they read a review that no pod reaches.
    """
    flavor = spec.components[ComponentType.ORCHESTRATOR].flavor
    if flavor in IN_THIS_PROCESS:
        return {}
    from zenml.enums import ExecutionMode

    if flavor == ON_WORKER:
        plan = dag or DagPlan()
        return worker_options(spec, names, _dag_settings(plan), plan.use_case)
    default = spec.step("")
    if not default.image:
        raise StackError(
            f"stack {spec.name!r}: runs steps in containers but has no image; set steps.default.image in its file"
        )
    if reads_review:
        require_review(spec, names.values())
    settings: _Options = {"docker": _image(default)}
    if flavor == "kubernetes":
        # The run is submitted, then followed like a run of another client.
        starter = pod_settings(spec.step(ORCHESTRATOR))
        settings["orchestrator"] = {"orchestrator_pod_settings": starter, "synchronous": False}
    if flavor == "airflow":
        settings["orchestrator"] = _dag_settings(dag or DagPlan())
    steps = {runs_as: _step_options(spec, flavor, spec.step(name)) for runs_as, name in names.items()}
    options: _Options = {"settings": settings, "steps": steps}
    if flavor == "airflow":
        # The only mode of ZenML's Airflow; tasks after a failed one do not run there either.
        options["execution_mode"] = ExecutionMode.CONTINUE_ON_FAILURE
    return options


def _step_options(spec: StackSpec, flavor: str, step: StepSpec) -> _Options:
    options: _Options = {"settings": {"docker": _image(step)}}
    if step.retries:
        options["retry"] = {"max_retries": step.retries}
    if step.step_operator:
        operator = spec.components[ComponentType.STEP_OPERATOR]
        options["step_operator"] = operator.name
        options["settings"] |= _component_settings("step_operator", operator.flavor, step)
    elif flavor == "airflow":
        # ZenML replaces the component's operator settings with a step's, so repeat them here.
        operator_args = spec.components[ComponentType.ORCHESTRATOR].configuration.get("operator_args", {})
        options["settings"]["orchestrator"] = {"operator_args": operator_args | _operator_args(step)}
    else:
        options["settings"] |= _component_settings("orchestrator", flavor, step)
    return options


def _image(step: StepSpec) -> _Options:
    """Return settings that use our image unchanged, so that a run builds, installs and downloads nothing."""
    return {
        "parent_image": step.image,
        "skip_build": True,
        "install_stack_requirements": False,
        "disable_automatic_requirements_detection": True,
        "allow_including_files_in_images": False,
        "allow_download_from_code_repository": False,
        "allow_download_from_artifact_store": False,
    }


def _component_settings(kind: str, flavor: str, step: StepSpec) -> _Options:
    if flavor == "kubernetes":
        settings: _Options = {"pod_settings": pod_settings(step)}
        if step.timeout:
            settings["active_deadline_seconds"] = step.timeout
        return {kind: settings}
    return {"resources": _resources(step)}


def _resources(step: StepSpec) -> _Options:
    """Return ZenML's generic resource settings, for flavors without pod settings."""
    said = {
        "cpu_count": step.cpu,
        "memory": step.memory and f"{step.memory}B",  # ZenML writes 4GiB where Kubernetes writes 4Gi
        "gpu_count": step.gpu,
    }
    return {key: value for key, value in said.items() if value is not None}


def pod_settings(step: StepSpec) -> _Options:
    """Return ZenML's KubernetesPodSettings for the pod of a step."""
    volumes = dict(_VOLUMES)
    if step.scratch:
        volumes[_SCRATCH] = (_SCRATCH_PATH, _scratch_source(step.scratch))
    return {
        "resources": _quantities(step),
        "node_selectors": dict(step.node_selector),
        "tolerations": [{k: v for k, v in t.model_dump().items() if v} for t in step.tolerations],
        # ZenML's own `environment` of a step would be part of the cache key.
        "env": [{"name": key, "value": value} for key, value in _environment(step).items()],
        "env_from": [source.model_dump(exclude_unset=True, exclude_none=True) for source in step.env_from],
        "image_pull_secrets": list(step.image_pull_secrets),
        "volumes": [{"name": name, **source} for name, (_, source) in volumes.items()],
        "volume_mounts": [{"name": name, "mountPath": path} for name, (path, _) in volumes.items()],
        "container_security_context": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "additional_pod_spec_args": {"security_context": _security_context(step)},
    }


def _dag_settings(plan: DagPlan) -> _Options:
    arguments: _Options = {"max_active_runs": 1}
    if plan.is_on_demand:
        arguments["on_demand"] = True
    if plan.starts:
        arguments["trigger"] = {"after": plan.after, "command": list(plan.asks), "dag": plan.starts}
    return {"dag_args": arguments, "dag_tags": ["visionops"]} | ({"dag_id": plan.id} if plan.id else {})


def _operator_args(step: StepSpec) -> _Options:
    """Return arguments of Airflow's KubernetesPodOperator, which adds image, command and variables to this pod."""
    pod = pod_settings(step)
    container = {
        "name": "base",
        "resources": pod["resources"],
        "env": pod["env"],
        "envFrom": pod["env_from"],
        "volumeMounts": pod["volume_mounts"],
        "securityContext": pod["container_security_context"],
    }
    spec = {
        "volumes": pod["volumes"],
        "nodeSelector": pod["node_selectors"],
        "tolerations": pod["tolerations"],
        "imagePullSecrets": [{"name": name} for name in step.image_pull_secrets],
        "securityContext": pod["additional_pod_spec_args"]["security_context"],
        "activeDeadlineSeconds": step.timeout,
    }
    spec = {"containers": [container], **{key: value for key, value in spec.items() if value}}
    template = {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"visionops": "step"}}, "spec": spec}
    return {"pod_template_dict": template}


def _quantities(step: StepSpec) -> dict[str, dict[str, str]]:
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    if step.cpu:
        requests["cpu"] = f"{step.cpu:g}"
    if step.memory:
        requests["memory"] = limits["memory"] = step.memory
    if step.gpu:
        requests[step.gpu_resource] = limits[step.gpu_resource] = str(step.gpu)
    return {name: values for name, values in (("requests", requests), ("limits", limits)) if values}


def _environment(step: StepSpec) -> dict[str, str]:
    home = {_HOME: f"{_SCRATCH_PATH}/visionops"} if step.scratch else {}
    given = {name: value for name, value in step.environment.items() if value}
    return home | given | {CODE_VARIABLE: code_digest()}


def _security_context(step: StepSpec) -> _Options:
    # The group makes a new volume of a storage class writable.
    user = {"runAsUser": step.run_as, "runAsGroup": step.run_as, "fsGroup": step.run_as} if step.run_as else {}
    return {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, **user}


def _scratch_source(scratch: Scratch) -> _Options:
    if scratch.claim:
        return {"persistentVolumeClaim": {"claimName": scratch.claim}}
    if not scratch.storage_class:
        return {"emptyDir": {"sizeLimit": scratch.size}}
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": scratch.storage_class,
        "resources": {"requests": {"storage": scratch.size}},
    }
    return {"ephemeral": {"volumeClaimTemplate": {"spec": claim}}}
