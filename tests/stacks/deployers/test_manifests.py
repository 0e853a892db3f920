"""Test that manifests match the schemas of the oldest and a recent Kubernetes, and that pods are confined."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
from pydantic import ValidationError

from stacks.deployers.kserve import inference_service
from stacks.deployers.manifests.identity import PodCandidate, PodModel, endpoint_url, selector
from stacks.deployers.manifests.keys import secret
from stacks.deployers.manifests.network import supporting
from stacks.deployers.manifests.pod import pod_spec, revision
from stacks.deployers.manifests.scaling import prometheus_queries, scaling
from stacks.deployers.manifests.settings import KedaScaling, KubernetesDeployerConfig
from stacks.deployers.manifests.workload import deployment
from stacks.deployers.seldon import seldon_deployment
from tests.helpers.crds import check_resource
from visionops.inference.release_settings import ReleaseConfig
from visionops.inference.server_options import ServerOptions
from visionops.inference.settings import ServingConfig

SERVED = PodModel(
    uri="s3://models/bundles/abc",
    digest="abc",
    name="Steel.v2",
    version="12_a-",
    alias="champion",
    serving=ServingConfig(prediction_log_store="postgresql://log@db:6432/log", prediction_log_images=0.1),
    smoke_images=("s3://models/bundles/smoke/1", "s3://models/bundles/smoke/2"),
)
LEAST = KubernetesDeployerConfig(namespace="vision", image="serving:1", bundle_store="s3://models/bundles")
MOST = KubernetesDeployerConfig.model_validate(
    {
        **LEAST.model_dump(),
        "bundle_store_endpoint": "http://minio:9000",
        "bundle_store_secret": "s3",
        "prediction_log_secret": "log",
        "api_keys_secret": "clients",
        "image_pull_policy": "Always",
        "image_pull_secrets": ["registry"],
        "service_account": "serving",
        "run_as": None,
        "autoscaling": {"min_replicas": 2, "max_replicas": 8},
        "node_selector": {"pool": "cpu"},
        "tolerations": [{"key": "gpu"}, {"key": "x", "operator": "Equal", "value": "y", "effect": "NoSchedule"}],
        "allowed_namespaces": ["ingress-nginx", "monitoring"],
        "egress_ports": [8333],
        "ingress": {"host": "steel.example.org", "class_name": "nginx", "tls_secret": "steel-tls"},
    }
)


def objects(config: KubernetesDeployerConfig, served: PodModel = SERVED) -> list[dict[str, Any]]:
    """Return all objects of Kubernetes' own kinds."""
    others = supporting(served, config, selector(served.name)) + scaling(served.name, config)
    return [secret(served.name, config, "a", "b"), deployment(served, config), *others]


def find(kind: str, config: KubernetesDeployerConfig, served: PodModel = SERVED) -> dict[str, Any]:
    (found,) = [o for o in objects(config, served) if o["kind"] == kind]
    return found


@pytest.mark.parametrize("kubernetes", ["1.30", "1.35"])
@pytest.mark.parametrize("config", [LEAST, MOST], ids=["least", "most"])
def test_all_objects_hold_to_the_schemas(kubernetes, config):
    kinds = set()
    for manifest in objects(config):
        kubernetes_validate.validate(manifest, kubernetes, strict=True)
        kinds.add(manifest["kind"])
    expected = {"Secret", "Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget"}
    assert kinds == expected | ({"Ingress", "HorizontalPodAutoscaler"} if config is MOST else set())


KEDA = {"prometheus": "http://prometheus.vision.svc:9090", "requests_per_second": 12.5, "authentication": "login"}


def by_keda(**more: Any) -> KubernetesDeployerConfig:
    scaling = {"min_replicas": 2, "max_replicas": 8, "keda": KEDA | more}
    return KubernetesDeployerConfig.model_validate(LEAST.model_dump() | {"autoscaling": scaling})


def test_keda_reads_queue_depth_and_request_rate_from_prometheus():
    kinds = [o["kind"] for o in objects(by_keda())]
    assert "HorizontalPodAutoscaler" not in kinds
    manifest = find("ScaledObject", by_keda())
    check_resource(manifest)
    spec = manifest["spec"]
    assert spec["scaleTargetRef"]["name"] == find("Deployment", by_keda())["metadata"]["name"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, 8)
    cpu, *others = spec["triggers"]
    assert cpu == {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "70"}}
    pods = spec["scaleTargetRef"]["name"] + "-[a-z0-9]+-[a-z0-9]+"
    assert {one["name"]: (one["metadata"]["query"], one["metadata"]["threshold"]) for one in others} == {
        "queue-depth": (f'sum(visionops_queue_depth{{instance=~"{pods}"}})', "4"),
        "requests-per-second": (
            f'sum(rate(visionops_requests_total{{instance=~"{pods}",route!~"/health|/ready|/metrics"}}[2m]))',
            "12.5",
        ),
    }
    assert all(one["authenticationRef"] == {"name": "login"} for one in others)
    bare = by_keda(queue_depth=None, authentication="", pods='pod=~"{pods}"')
    (one,) = find("ScaledObject", bare)["spec"]["triggers"][1:]
    assert f'{{pod=~"{pods}",' in one["metadata"]["query"]
    assert "authenticationRef" not in one


def test_the_schema_of_keda_would_say_so():
    manifest = find("ScaledObject", by_keda())
    for path, key, value in (
        ((), "scaleTarget", {}),
        (("triggers", 1), "metricTypes", "Value"),
        (("triggers", 1, "metadata"), "threshold", 4),  # strings only
    ):
        wrong = copy.deepcopy(manifest)
        inner = wrong["spec"]
        for part in path:
            inner = inner[part]
        inner[key] = value
        with pytest.raises(jsonschema.ValidationError):
            check_resource(wrong)


def test_the_pods_of_an_endpoint_are_those_of_no_other():
    queries = prometheus_queries("visionops-steel", KedaScaling.model_validate(KEDA))
    (pattern,) = set(re.findall(r'instance=~"(.+?)"', " ".join(query for query, _ in queries.values())))
    assert re.fullmatch(pattern, "visionops-steel-6f5d8c7b9c-x7k2p")
    assert not re.fullmatch(pattern, "visionops-steel-2-6f5d8c7b9c-x7k2p")


@pytest.mark.parametrize(
    ("scaling", "words"),
    [
        ({"min_replicas": 0}, "min_replicas 0 needs keda.wake_query"),
        ({"min_replicas": 0, "keda": KEDA}, "min_replicas 0 needs keda.wake_query"),
        ({"keda": KEDA | {"queue_depth": None, "requests_per_second": None}}, "set queue_depth, requests_per_second"),
        ({"keda": KEDA | {"prometheus": "prometheus:9090"}}, "prometheus"),
        ({"keda": KEDA | {"pods": 'job="visionops"'}}, "pods"),
    ],
)
def test_scaling_that_cannot_be_is_refused(scaling, words):
    with pytest.raises(ValidationError, match=words):
        KubernetesDeployerConfig.model_validate(LEAST.model_dump() | {"autoscaling": scaling})


def test_a_gpu_is_for_the_server_only():
    amounts = {"cpu": "1", "memory": "2Gi", "nvidia.com/gpu": "1"}
    config = KubernetesDeployerConfig.model_validate(
        LEAST.model_dump() | {"resources": {"requests": amounts, "limits": amounts}}
    )
    serving = ServingConfig(engine="onnxruntime", device="gpu")
    spec = pod_spec(SERVED.model_copy(update={"serving": serving}), config)
    (fetch,), (server,) = spec["initContainers"], spec["containers"]
    assert server["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert fetch["resources"]["limits"] == {"cpu": "1", "memory": "2Gi"}
    assert "--device=gpu" in server["args"]
    assert not any("device" in argument for argument in pod_spec(SERVED, LEAST)["containers"][0]["args"])
    manifest = deployment(SERVED.model_copy(update={"serving": serving}), config)
    kubernetes_validate.validate(manifest, "1.35", strict=True)


def test_the_schemas_would_say_so():
    wrong = find("Deployment", LEAST)
    wrong["spec"]["template"]["spec"]["containers"][0]["image_pull_policy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.30", strict=True)


def containers(config: KubernetesDeployerConfig) -> Iterator[dict[str, Any]]:
    spec = pod_spec(SERVED, config)
    yield from (*spec["initContainers"], *spec["containers"])


def test_pods_can_do_little():
    spec = pod_spec(SERVED, LEAST)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "fsGroup": 10001,
    }
    for container in containers(LEAST):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(container["resources"]) == {"requests", "limits"}
    server = spec["containers"][0]
    assert {m["mountPath"] for m in server["volumeMounts"] if m["readOnly"]} == {"/models"}
    assert all("emptyDir" in volume for volume in spec["volumes"])
    assert "runAsUser" not in pod_spec(SERVED, MOST)["securityContext"]


def test_replacing_leaves_no_gap():
    spec = find("Deployment", LEAST)["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    server = spec["template"]["spec"]["containers"][0]
    probes = {name: server[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert probes == {"startupProbe": "/ready", "readinessProbe": "/ready", "livenessProbe": "/health"}
    assert server["startupProbe"]["periodSeconds"] * server["startupProbe"]["failureThreshold"] >= LEAST.timeout
    assert (
        server["lifecycle"]["preStop"]["sleep"]["seconds"] < spec["template"]["spec"]["terminationGracePeriodSeconds"]
    )


def test_credentials_go_where_they_are_needed():
    fetch, server = containers(MOST)
    assert fetch["envFrom"] == [{"secretRef": {"name": "s3"}}]
    assert server["envFrom"] == [{"secretRef": {"name": "log"}}]
    assert not any("s3" in str(variable) for variable in server["env"])
    on_s3 = SERVED.model_copy(update={"serving": ServingConfig(prediction_log_store="s3://logs/steel")})
    server = pod_spec(on_s3, MOST)["containers"][0]
    assert {"name": "AWS_ENDPOINT_URL", "value": "http://minio:9000"} in server["env"]
    nothing = SERVED.model_copy(update={"serving": ServingConfig(prediction_log=False)})
    server = pod_spec(nothing, MOST)["containers"][0]
    assert "envFrom" not in server
    assert not any("prediction-log" in argument for argument in server["args"])


def test_the_network_is_open_where_it_must_be():
    rules = find("NetworkPolicy", MOST)["spec"]
    (way_in,) = rules["ingress"]
    assert [port["port"] for port in way_in["ports"]] == [8000]
    assert way_in["from"][1]["namespaceSelector"]["matchExpressions"][0]["values"] == ["ingress-nginx", "monitoring"]
    ports = {port["port"] for rule in rules["egress"] for port in rule["ports"]}
    assert ports == {53, 9000, 6432, 8333}  # DNS, bundles, the log, and the configured port
    least = find("NetworkPolicy", LEAST, SERVED.model_copy(update={"serving": ServingConfig()}))["spec"]
    assert {port["port"] for rule in least["egress"] for port in rule["ports"]} == {53, 443}


def test_a_pod_that_is_made_otherwise_has_another_revision():
    mark = revision(pod_spec(SERVED, LEAST))
    assert mark == revision(pod_spec(SERVED, LEAST))
    assert mark != revision(pod_spec(SERVED, MOST))
    assert mark != revision(pod_spec(SERVED.model_copy(update={"version": "13"}), LEAST))
    assert revision({"containers": [{"env": [{"name": "X"}]}]}) == ""


def test_addresses():
    assert endpoint_url("Steel.v2", MOST) == "https://steel.example.org"
    assert endpoint_url("steel", LEAST) == "http://visionops-steel.vision.svc:8000"


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"namespace": "No_Such"}, "namespace"),
        ({"bundle_store": "/models"}, "bundle_store"),
        ({"autoscaling": {"min_replicas": 3, "max_replicas": 2}}, "min_replicas 3 is above max_replicas 2"),
        ({"resources": {"cpu": "1"}}, "cpu"),
        ({"image_pull_policy": "Sometimes"}, "image_pull_policy"),
    ],
)
def test_a_wrong_configuration_is_named(wrong, why):
    with pytest.raises(ValidationError, match=why):
        KubernetesDeployerConfig.model_validate(LEAST.model_dump() | wrong)


TRIED = SERVED.model_copy(
    update={
        "candidate": PodCandidate(uri="s3://models/bundles/def", digest="def", version="13"),
        "serving": ServingConfig(release=ReleaseConfig(strategy="canary", share=0.2, min_agreement=0.9)),
    }
)


@pytest.mark.parametrize("make", [deployment, inference_service, seldon_deployment])
def test_a_candidate_is_fetched_beside_and_tried_as_the_release_says(make):
    manifest = make(TRIED, MOST)
    spec = manifest["spec"]
    if make is deployment:
        pod = spec["template"]["spec"]
    elif make is inference_service:
        pod = spec["predictor"]
    else:
        pod = spec["predictors"][0]["componentSpecs"][0]["spec"]
    first, second = pod["initContainers"]
    assert (first["name"], second["name"]) == ("fetch", "fetch-candidate")
    assert second["command"][3:] == ["s3://models/bundles/def", "/models/candidate", "--digest", "def"]
    assert {mount["mountPath"]: mount["readOnly"] for mount in second["volumeMounts"]}["/models"] is False
    assert second["envFrom"] == first["envFrom"]
    read = ServerOptions.parse(pod["containers"][0]["args"])
    assert (str(read.candidate), read.candidate_version, read.release) == (
        "/models/candidate",
        "13",
        TRIED.serving.release,
    )
    assert manifest["metadata"]["annotations"]["visionops/candidate"] == "13"
    alone = make(TRIED.model_copy(update={"candidate": None}), MOST)
    assert "candidate" not in str(alone)  # existing pods are not replaced


def test_a_manifest_with_a_candidate_holds_to_the_schema():
    for version in ("1.30", "1.35"):
        kubernetes_validate.validate(deployment(TRIED, MOST), version, strict=True)
