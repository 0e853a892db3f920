"""Check Kubernetes namespaces: existence, rights, and the kinds and objects that a component needs."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stacks.deployers.api import Namespace
from stacks.deployers.manifests.settings import KubernetesDeployerConfig, reaching
from stacks.doctor.findings import CheckResult, Examined, State, broken, flag, of_error, ok, warning
from stacks.doctor.machine import check_folder
from stacks.doctor.network import check_way_to_api_server
from stacks.doctor.registries import check_image
from stacks.doctor.s3 import check_bucket
from stacks.doctor.web import NO_ANSWER_SECONDS
from stacks.spec import ComponentType, StackSpec
from stacks.steps import DEFAULT, StepSpec
from visionops.errors import DeploymentError

__all__ = [
    "check_airflow_orchestrator",
    "check_bundle_store",
    "check_cluster_deployer",
    "check_kubernetes_orchestrator",
    "check_serving_image",
    "check_step_images",
]

_TIMEOUT = (3.0, NO_ANSWER_SECONDS)
_OLDEST = {"visionops_kubernetes": (1, 30), "kubernetes": (1, 21)}
"""Oldest Kubernetes version for each flavor: ours by its tests, ZenML's by the kinds that it creates."""
_OPERATORS = {
    "SeldonDeployment": "install Seldon Core 1.15 or newer of 1",
    "InferenceService": "install KServe 0.16 or newer",
}
_ROLE = "grant them: docs/how-to/kubernetes.md has the Role"
_CHANGE = ("get", "create", "update", "delete")
_S3_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")

_MADE = ("zenml-service-account", "default")
"""Service accounts that ZenML or the cluster creates."""
_MAKE = {"Secret": "create secret generic {name}", "PersistentVolumeClaim": "apply -f {name}.yaml"}
_Needed = Mapping[tuple[str, str], Sequence[str]]
"""Required keys of each object, by its kind and name."""
_Right = tuple[str, str, str]
"""Verb, kind, subresource."""


def check_cluster_deployer(examined: Examined) -> Iterator[CheckResult]:
    """Check the namespace in which a deployer runs endpoints as pods."""
    from stacks.deployers.kserve import KServeEndpoint
    from stacks.deployers.kubernetes import KubernetesModelDeployerConfig
    from stacks.deployers.rollout import ClusterEndpoint
    from stacks.deployers.seldon import SeldonEndpoint

    flavor = examined.component.flavor
    config = KubernetesModelDeployerConfig(**examined.component.configuration).settings
    endpoint = {"visionops_seldon": SeldonEndpoint, "visionops_kserve": KServeEndpoint}.get(flavor, ClusterEndpoint)
    kinds = ("Service", endpoint.KIND, *endpoint.OTHERS)
    rights = [("get", "Secret", ""), ("create", "Secret", ""), ("delete", "Secret", "")]
    rights += [(verb, kind, "") for kind in kinds for verb in _CHANGE]
    rights += [("list", "Pod", ""), ("get", "Pod", "log")]
    secrets: dict[str, Sequence[str]] = dict.fromkeys(config.image_pull_secrets, ())
    secrets |= {
        config.prediction_log_secret: (),
        config.api_keys_secret: ("api-keys",),
        config.bundle_store_secret: _S3_KEYS,
    }
    needed = {("Secret", name): keys for name, keys in secrets.items() if name}
    if config.service_account:
        needed["ServiceAccount", config.service_account] = ()
    yield from _check_namespace(config, flavor, rights, needed, endpoint.KIND)


def check_serving_image(examined: Examined) -> Iterator[CheckResult]:
    """Check that the registry has the image of the endpoint's pods."""
    yield from check_image(str(examined.component.configuration["image"]))


def check_bundle_store(examined: Examined) -> Iterator[CheckResult]:
    """Check the bucket for model bundles, with the same environment as the deployer."""
    config = KubernetesDeployerConfig.model_validate(examined.component.configuration)
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    if config.bundle_store_endpoint and not endpoint:
        yield warning(
            f"bundle_store_endpoint is {config.bundle_store_endpoint} for pods, but here Amazon's endpoint is used",
            "set AWS_ENDPOINT_URL to the address of the same store as seen from here",
        )
    style = {"s3": {"addressing_style": "path"}} if endpoint else {}
    client: dict[str, Any] = {"region_name": config.bundle_store_region}
    yield from check_bucket(config.bundle_store.partition("?")[0], client, style)


def check_kubernetes_orchestrator(examined: Examined) -> Iterator[CheckResult]:
    """Check the namespace in which ZenML's job starts steps as pods, and the objects that `steps` names."""
    own, stack = examined.component.configuration, examined.stack
    config = reaching(
        str(own.get("kubernetes_namespace") or ""),
        str(own.get("kubernetes_context") or ""),
        incluster=flag(own.get("incluster")),
    )
    rights = [("create", "Job", ""), ("list", "Job", ""), ("delete", "Job", ""), ("list", "Pod", "")]
    if flag(own.get("pass_zenml_token_as_secret")):
        rights += [("create", "Secret", ""), ("delete", "Secret", "")]
    if not own.get("service_account_name"):  # ZenML creates one, with the ClusterRole `edit`
        rights += [("create", "ServiceAccount", ""), ("create", "RoleBinding", "")]
    findings = list(_check_namespace(config, "kubernetes", rights, _needed_by_steps(own, stack), "Job"))
    yield from findings
    if all(finding.state is State.OK for finding in findings):
        yield from _check_events(config)
        yield from check_way_to_api_server(config, _TIMEOUT)


def _check_events(config: KubernetesDeployerConfig) -> Iterator[CheckResult]:
    namespace = Namespace(config, timeout=_TIMEOUT, retries=0)
    if not namespace.may("list", "Event"):
        yield warning(
            f"namespace {namespace.name}: lacks the right to list Event, so a run cannot report why a step has no pod",
            _ROLE,
        )


def check_airflow_orchestrator(examined: Examined) -> Iterator[CheckResult]:
    """Check the DAG folder, and the namespace in which Airflow starts steps as pods with its own rights."""
    own, stack = examined.component.configuration, examined.stack
    dags, pods = str(own.get("dag_output_dir") or ""), dict(own.get("operator_args") or {})
    if dags.startswith("s3://"):
        endpoint = os.environ.get("AWS_ENDPOINT_URL")
        yield from check_bucket(dags, {"endpoint_url": endpoint} if endpoint else {}, {})
    elif dags:
        yield from check_folder(Path(dags), "DAGs")
    else:
        yield warning(
            "DAGs stay in ZenML's own folder", "set dag_output_dir to the folder that Airflow reads DAGs from"
        )
    deployer = stack.components.get(ComponentType.MODEL_DEPLOYER)
    if pods.get("namespace") and deployer and "namespace" in deployer.configuration:
        known = KubernetesDeployerConfig.model_validate(deployer.configuration)
        config = known.model_copy(update={"namespace": str(pods["namespace"])})
        yield from _check_namespace(config, "kubernetes", (), _needed_by_steps(pods, stack), "Pod")


def check_step_images(examined: Examined) -> Iterator[CheckResult]:
    """Check that the registries have the images of steps."""
    for image in sorted({step.image for step in _steps(examined.stack) if step.image}):
        yield from check_image(image)


def _steps(stack: StackSpec) -> list[StepSpec]:
    return [stack.step(name) for name in sorted({DEFAULT, *stack.steps})]


def _needed_by_steps(own: Mapping[str, Any], stack: StackSpec) -> _Needed:
    """Return the objects that the namespace must have before pods of these steps can start."""
    accounts = {own.get("service_account_name"), own.get("step_pod_service_account_name")}
    needed: set[tuple[str, str]] = {("ServiceAccount", str(name)) for name in accounts - {None, "", *_MADE}}
    for step in _steps(stack):
        needed |= {("Secret", name) for name in step.image_pull_secrets}
        for source in step.env_from:
            for kind, named in (("Secret", source.secretRef), ("ConfigMap", source.configMapRef)):
                if named and not named.optional:
                    needed.add((kind, named.name))
        if step.scratch and step.scratch.claim:
            needed.add(("PersistentVolumeClaim", step.scratch.claim))
    return dict.fromkeys(sorted(needed), ())


def _check_namespace(
    config: KubernetesDeployerConfig,
    flavor: str,
    rights: Sequence[_Right],
    needed: _Needed,
    kind: str,
) -> Iterator[CheckResult]:
    namespace = Namespace(config, timeout=_TIMEOUT, retries=0)
    try:
        version = namespace.version
        where = f"namespace {namespace.name} of {namespace.host}, Kubernetes {version[0]}.{version[1]}"
        findings = [
            *_check_version(flavor, version, namespace.host),
            *_check_there(namespace),
            *_check_rights(namespace, rights),
        ]
        if not namespace.knows(kind):
            findings.append(broken(f"{namespace.host}: unknown kind {kind}", _OPERATORS.get(kind, _ROLE)))
        if namespace.is_there is not False:
            readable = {kind for kind in {kind for kind, _ in needed} if namespace.may("get", kind)}
            for (needed_kind, name), keys in needed.items():
                if needed_kind in readable:
                    findings += _check_object(namespace, needed_kind, name, keys)
    except DeploymentError as error:
        yield _explained(error)
        return
    yield from findings or [
        ok(where + (f", {len(rights)} rights" if rights else "") + (f", {len(needed)} objects" if needed else ""))
    ]


def _explained(error: DeploymentError) -> CheckResult:
    finding = of_error(error)
    if "context" in finding.observed and "Expected object with name" in finding.observed:
        return broken(finding.observed, f"{finding.fix}; known contexts: {_contexts()}")
    return finding


def _contexts() -> str:
    from kubernetes import config

    try:
        known = config.list_kube_config_contexts(os.environ.get("KUBECONFIG"))[0]
    except (config.ConfigException, OSError):
        return "none"
    return ", ".join(sorted(context["name"] for context in known)) or "none"


def _check_version(flavor: str, version: tuple[int, int], host: str) -> Iterator[CheckResult]:
    oldest = _OLDEST.get(flavor, _OLDEST["visionops_kubernetes"])
    if version < oldest:
        seen, needed = (".".join(map(str, numbers)) for numbers in (version, oldest))
        yield broken(f"{host}: Kubernetes {seen}, but {flavor} needs {needed}", "upgrade the cluster, or use another")


def _check_there(namespace: Namespace) -> Iterator[CheckResult]:
    if namespace.is_there is False:
        fix = f"kubectl create namespace {namespace.name}, or set another"
        yield broken(f"namespace {namespace.name} of {namespace.host}: does not exist", fix)


def _check_rights(namespace: Namespace, rights: Sequence[_Right]) -> Iterator[CheckResult]:
    lacking: dict[str, list[str]] = {}
    for verb, kind, subresource in rights:
        if not namespace.may(verb, kind, subresource):
            lacking.setdefault(kind + (f"/{subresource}" if subresource else ""), []).append(verb)
    if lacking:
        said = "; ".join(f"{', '.join(verbs)} {kind}" for kind, verbs in lacking.items())
        yield broken(f"namespace {namespace.name}: lacks the right to {said}", _ROLE)


def _check_object(namespace: Namespace, kind: str, name: str, keys: Sequence[str]) -> Iterator[CheckResult]:
    found = namespace.get(kind, name)
    if found is None:
        named = "".join(f" --from-literal={key}=…" for key in keys)
        how = _MAKE.get(kind, "create {kind} {name}").format(kind=kind.lower(), name=name)
        fix = f"{shlex.join(namespace.kubectl)} {how}{named}"
        yield broken(f"namespace {namespace.name}: missing {kind} {name}, which the stack names", fix)
        return
    lacking = [key for key in keys if key not in (found.get("data") or {})]
    if lacking:
        yield broken(f"{kind} {name}: lacks {' and '.join(lacking)}", "add the missing keys, or name another")
