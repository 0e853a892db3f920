"""Test that SeldonDeployment and InferenceService match their published schemas, and their pods Kubernetes' schema."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from stacks.deployers.kserve import inference_service
from stacks.deployers.manifests.settings import KubernetesDeployerConfig
from stacks.deployers.seldon import seldon_deployment
from tests.conftest import ROOT
from tests.helpers.crds import check_resource, schema_of
from tests.stacks.deployers.test_manifests import LEAST, MOST, SERVED

SELDON_KUBERNETES = "1.25"
"""Oldest available Kubernetes schema; Seldon Core 1.16 to 1.18 contain the pod schema of Kubernetes 1.24."""
KSERVE_KUBERNETES = "1.30"
NEWEST = "1.35"
REFUSED = (jsonschema.ValidationError, kubernetes_validate.ValidationError)


def check_seldon(manifest: dict[str, Any], versions: tuple[str, ...] = (SELDON_KUBERNETES, NEWEST)) -> None:
    check_resource(manifest)
    for version in versions:
        for predictor in manifest["spec"]["predictors"]:
            for component in predictor["componentSpecs"]:
                check_pod(component["spec"], component.get("metadata", {}), version)
                if "hpaSpec" in component:
                    check_metrics(component["hpaSpec"].get("metricsv2", []), version)
        check_metadata(manifest["metadata"], version)


def check_kserve(manifest: dict[str, Any], versions: tuple[str, ...] = (KSERVE_KUBERNETES, NEWEST)) -> None:
    check_resource(manifest)
    extension = schema_of("InferenceService")["definitions"]["V1beta1ComponentExtensionSpec"]["properties"]
    predictor = manifest["spec"]["predictor"]
    metadata = {key: predictor[key] for key in ("labels", "annotations")}
    for version in versions:
        check_pod({key: value for key, value in predictor.items() if key not in extension}, metadata, version)
        check_strategy(predictor["deploymentStrategy"], version)
        check_metadata(manifest["metadata"], version)


def check_metadata(metadata: dict[str, Any], version: str) -> None:
    bare = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    kubernetes_validate.validate(bare, version, strict=True)


def check_pod(spec: dict[str, Any], metadata: dict[str, Any], version: str) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"} | metadata, "spec": spec}
    kubernetes_validate.validate(pod, version, strict=True)


def check_metrics(metrics: list[dict[str, Any]], version: str) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}
    spec = {"scaleTargetRef": target, "maxReplicas": 1, "metrics": metrics}
    scaler = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "x"}}
    kubernetes_validate.validate(scaler | {"spec": spec}, version, strict=True)


def check_strategy(strategy: dict[str, Any], version: str) -> None:
    labels = {"a": "b"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "x", "image": "x"}]}}
    spec = {"selector": {"matchLabels": labels}, "template": pod, "strategy": strategy}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": spec}
    kubernetes_validate.validate(deployment, version, strict=True)


@pytest.mark.parametrize("config", [LEAST, MOST], ids=["least", "most"])
def test_a_seldon_deployment_is_a_graph_of_one_and_a_pod(config):
    manifest = seldon_deployment(SERVED, config)
    check_seldon(manifest)
    (predictor,) = manifest["spec"]["predictors"]
    (component,) = predictor["componentSpecs"]
    assert predictor["graph"]["name"] in {container["name"] for container in component["spec"]["containers"]}
    assert ("hpaSpec" in component) == (config is MOST)


@pytest.mark.parametrize("config", [LEAST, MOST], ids=["least", "most"])
def test_an_inference_service_is_a_predictor_and_a_pod(config):
    manifest = inference_service(SERVED, config)
    check_kserve(manifest)
    predictor = manifest["spec"]["predictor"]
    assert [container["name"] for container in predictor["containers"]] == ["kserve-container"]


def test_kserve_has_keda_scale_down_to_nothing():
    scaling = {
        "min_replicas": 0,
        "keda": {"prometheus": "http://p:9090", "wake_query": "sum(rate(hits[1m]))", "authentication": "login"},
    }
    manifest = inference_service(
        SERVED, KubernetesDeployerConfig.model_validate(LEAST.model_dump() | {"autoscaling": scaling})
    )
    check_kserve(manifest)
    predictor = manifest["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (0, 3)
    assert manifest["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "keda"
    cpu, queue, wake = predictor["autoScaling"]["metrics"]
    assert cpu["resource"]["target"] == {"type": "Utilization", "averageUtilization": 70}
    assert f"{manifest['metadata']['name']}-predictor-" in queue["external"]["metric"]["query"]
    assert wake["external"]["metric"]["query"] == "clamp_max(ceil(sum(rate(hits[1m]))), 1)"
    assert wake["external"]["target"] == {"type": "Value", "value": "1"}


def test_the_graph_that_the_docs_show_is_one():
    (text,) = re.findall(r"```yaml\n(.+?)```", (ROOT / "docs" / "how-to" / "seldon.md").read_text(), re.DOTALL)
    manifest = yaml.safe_load(text)
    check_seldon(manifest)
    (predictor,) = manifest["spec"]["predictors"]
    (model,) = predictor["graph"]["children"]
    containers = {container["name"] for container in predictor["componentSpecs"][0]["spec"]["containers"]}
    assert {predictor["graph"]["name"], model["name"]} == containers


def test_a_pod_of_seldons_ends_as_slowly_as_any_other():
    manifest = seldon_deployment(SERVED, LEAST)
    server = manifest["spec"]["predictors"][0]["componentSpecs"][0]["spec"]["containers"][0]
    assert server["lifecycle"] == {"preStop": {"exec": {"command": ["sleep", "5"]}}}
    server["lifecycle"]["preStop"] = {"sleep": {"seconds": 5}}  # like the other manifests
    with pytest.raises(kubernetes_validate.ValidationError, match="sleep"):
        check_seldon(manifest)


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the paths of all objects and lists inside; the first item of a list represents all."""
    if isinstance(value, dict | list):
        yield path
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value[:1]):
            yield from places(inner, (*path, key))


@pytest.mark.parametrize(
    ("make", "check", "version"),
    [(seldon_deployment, check_seldon, SELDON_KUBERNETES), (inference_service, check_kserve, KSERVE_KUBERNETES)],
    ids=["seldon", "kserve"],
)
def test_a_stranger_is_refused_wherever_it_is(
    make: Callable[[Any, KubernetesDeployerConfig], dict[str, Any]], check: Callable[..., None], version: str
):
    manifest, accepted = make(SERVED, MOST), []
    for path in places(manifest):
        changed = copy.deepcopy(manifest)
        place: Any = changed
        for key in path:
            place = place[key]
        stranger = {"stranger": {"inside": 1}}
        place.update(stranger) if isinstance(place, dict) else place.append(stranger)
        try:
            check(changed, (version,))
        except REFUSED:
            continue
        accepted.append(path)
    assert accepted == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "predictors", 0, "replicas"), "2"),
        (("spec", "predictors", 0, "graph", "type"), "SERVER"),
        (("spec", "predictors", 0, "graph", "endpoint", "type"), "HTTP"),
        (("spec", "predictors", 0, "graph", "name"), None),
        (("spec", "predictors", 0, "componentSpecs", 0, "hpaSpec", "maxReplicas"), None),
        (("spec", "predictors"), None),
        (("spec", "predictor", "scaleMetric"), "gpu"),
        (("spec", "predictor", "minReplicas"), 1.5),
        (("spec", "predictor"), None),
    ],
)
def test_a_wrong_value_is_refused(path, value):
    manifest = (seldon_deployment if "predictor" not in path else inference_service)(SERVED, MOST)
    place: Any = manifest
    for key in path[:-1]:
        place = place[key]
    assert path[-1] in place
    place[path[-1]] = value
    if value is None:
        del place[path[-1]]
    with pytest.raises(REFUSED):
        check_resource(manifest)
