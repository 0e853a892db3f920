"""Test endpoints on a cluster's API: errors name the fix, and the previous model still serves."""

from __future__ import annotations

import base64
import copy
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from kmock import KubernetesError

from stacks.deployers.kserve import KServeEndpoint
from stacks.deployers.manifests.identity import MANAGED_BY, object_name
from stacks.deployers.manifests.settings import KubernetesDeployerConfig
from stacks.deployers.rollout import ClusterEndpoint
from stacks.deployers.seldon import SeldonEndpoint
from tests.conftest import ROOT
from tests.helpers.cluster import KINDS, NAMESPACE, WORKLOADS, Cluster, refusal, running_cluster
from tests.helpers.s3 import s3_bucket, s3_server
from visionops.errors import BundleError, DataError, DeploymentError
from visionops.inference.settings import ServingConfig

PAGE = ROOT / "docs" / "how-to" / "kubernetes.md"
SETTINGS = {"namespace": NAMESPACE, "image": "registry/serving:1", "service_url": "http://127.0.0.1:1"}
FORBIDDEN = (
    'deployments.apps is forbidden: User "ci" cannot create resource "deployments" in API group "apps" in the '
    'namespace "vision"'
)


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """Return the URI of a prefix, which the tests of this file share."""
    with s3_server() as address, s3_bucket(address, "models") as uri:
        yield f"{uri}/bundles"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with running_cluster(tmp_path) as cluster:
        yield cluster


@pytest.fixture
def endpoint(cluster: Cluster, store: str) -> ClusterEndpoint:
    return make(store)


def make(store: str, kind: type[ClusterEndpoint] = ClusterEndpoint, **more) -> ClusterEndpoint:
    settings = {**SETTINGS, "bundle_store": store, "poll_seconds": 0.001, "timeout": 5, **more}
    return kind("cells", KubernetesDeployerConfig.model_validate(settings))


def deploy(endpoint: ClusterEndpoint, bundle: Path, version: str = "1", **more) -> str:
    return endpoint.deploy(bundle, version=version, alias="champion", serving=ServingConfig(), **more)


def refused(endpoint: ClusterEndpoint, bundle: Path, version: str = "1", **more) -> str:
    """Deploy a bundle that is refused, and return the one-line reason."""
    with pytest.raises(DeploymentError) as caught:
        deploy(endpoint, bundle, version, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_made_and_what_is_left(endpoint, cluster, bundles):
    remark = deploy(endpoint, bundles[0], smoke_images=[b"one"])
    assert remark == "http://127.0.0.1:1 cannot be reached from here; its pods are ready, but no answer was checked"
    made = {
        f"{kind}/visionops-cells" for kind in ("deployments", "services", "networkpolicies", "poddisruptionbudgets")
    }
    assert cluster.names() == made | {"secrets/visionops-cells-keys"}
    keys = cluster.find("secrets")["data"]
    assert endpoint.admin_key() == base64.b64decode(keys["admin-key"]).decode()
    found = endpoint.find()
    assert (found.version, found.alias, found.is_ready, found.is_stopped) == ("1", "champion", True, False)
    deploy(endpoint, bundles[1], "2")
    assert cluster.find("secrets")["data"] == keys
    endpoint.delete()
    assert cluster.names() == set()
    assert cluster.pods == {}
    assert endpoint.find() is None


def test_the_same_again_changes_nothing(endpoint, cluster, bundles):
    deploy(endpoint, bundles[0])
    pods, before = set(cluster.pods), cluster.find("deployments")["metadata"]["resourceVersion"]
    deploy(endpoint, bundles[0])
    assert set(cluster.pods) == pods
    assert cluster.find("deployments")["metadata"]["resourceVersion"] == before


def test_what_others_wrote_stays(endpoint, cluster, bundles):
    deploy(endpoint, bundles[0])
    ((key, live),) = [(k, o.raw) for k, o in cluster.objects.items() if k[0].plural == "services"]
    metadata = live["metadata"] | {"annotations": {"team": "press"}}
    cluster.objects[key] = live | {"metadata": metadata, "spec": live["spec"] | {"clusterIP": "10.0.0.7"}}
    deploy(endpoint, bundles[1], "2")
    after = cluster.find("services")
    assert (after["metadata"]["annotations"], after["spec"]["clusterIP"]) == ({"team": "press"}, "10.0.0.7")


def test_replicas_and_the_autoscaler(cluster, store, bundles):
    scaled = make(store, autoscaling={"min_replicas": 2, "max_replicas": 5})
    deploy(scaled, bundles[0])
    assert len(cluster.pods) == 2
    key = next(k for k in cluster.objects if k[0].plural == "deployments")
    live = cluster.objects[key].raw
    cluster.objects[key] = live | {"spec": live["spec"] | {"replicas": 4}}  # like the autoscaler
    deploy(scaled, bundles[1], "2")
    assert len(cluster.pods) == 4
    assert "horizontalpodautoscalers/visionops-cells" in cluster.names()
    deploy(make(store, replicas=3, network_policy=False), bundles[1], "2")
    assert len(cluster.pods) == 3
    assert not {"horizontalpodautoscalers/visionops-cells", "networkpolicies/visionops-cells"} & cluster.names()


def test_one_scaler_at_a_time(cluster, store, bundles):
    """The HorizontalPodAutoscaler is removed before the ScaledObject is created, as KEDA's webhook refuses a second."""

    def webhook(request):
        both = {f"{kind}/visionops-cells" for kind in ("horizontalpodautoscalers", "scaledobjects")}
        is_new = request.method.value == "POST" and request.resource.plural in {name.split("/")[0] for name in both}
        if is_new and both & cluster.names():
            return KubernetesError(status=403, message="the workload is already managed by the hpa")
        return None

    cluster.faults.append(webhook)
    keda = {"max_replicas": 5, "keda": {"prometheus": "http://prometheus.vision.svc:9090"}}
    deploy(make(store, autoscaling={"max_replicas": 5}), bundles[0])
    deploy(make(store, autoscaling=keda), bundles[1], "2")
    assert "horizontalpodautoscalers/visionops-cells" not in cluster.names()
    assert cluster.find("scaledobjects")["spec"]["maxReplicaCount"] == 5
    deploy(make(store, autoscaling={"max_replicas": 5}), bundles[1], "2")
    assert "scaledobjects/visionops-cells" not in cluster.names()
    endpoint = make(store, autoscaling=keda)
    deploy(endpoint, bundles[1], "2")
    endpoint.delete()
    assert cluster.names() == set()


def test_a_cluster_without_keda_or_rights_for_it_is_no_trouble(cluster, store, bundles):
    cluster.faults.append(refusal(403, "scaledobjects.keda.sh is forbidden", plural="scaledobjects"))
    endpoint = make(store)
    deploy(endpoint, bundles[0])
    endpoint.delete()
    assert cluster.names() == set()
    wanted = make(store, autoscaling={"keda": {"prometheus": "http://prometheus.vision.svc:9090"}})
    assert "scaledobjects.keda.sh is forbidden" in refused(wanted, bundles[0])


def test_no_pod_at_all_is_for_kserve(cluster, store, bundles):
    keda = {"prometheus": "http://prometheus.vision.svc:9090", "wake_query": "sum(rate(requests[1m]))"}
    zero = {"min_replicas": 0, "keda": keda}
    for kind in (ClusterEndpoint, SeldonEndpoint):
        why = refused(make(store, kind, autoscaling=zero), bundles[0])
        assert "autoscaling.min_replicas: 0 is for visionops_kserve" in why
    assert "not supported by visionops_seldon" in refused(
        make(store, SeldonEndpoint, autoscaling=zero | {"min_replicas": 1}), bundles[0]
    )
    assert cluster.names() == set()
    asleep = make(store, KServeEndpoint, autoscaling=zero)
    deploy(asleep, bundles[0])
    assert cluster.find("inferenceservices")["spec"]["predictor"]["minReplicas"] == 0
    assert (asleep.find().is_ready, asleep.find().is_stopped) == (True, False)
    asleep.stop()
    assert asleep.find().is_stopped


def test_stop_remembers_how_many(cluster, store, bundles):
    endpoint = make(store, replicas=2)
    deploy(endpoint, bundles[0])
    endpoint.stop()
    endpoint.stop()
    assert (cluster.pods, endpoint.find().is_stopped) == ({}, True)
    endpoint.start()
    endpoint.start()
    assert len(cluster.pods) == 2
    endpoint.stop()
    deploy(endpoint, bundles[1], "2")
    assert endpoint.find().is_ready
    with pytest.raises(DeploymentError, match="nothing was deployed here"):
        ClusterEndpoint("other", endpoint.config).start()


FATES = {
    "image": r'ImagePullBackOff \(Back-off pulling image "x:1"\); check image and image_pull_secrets',
    "config": r'CreateContainerConfigError \(secret "s3" not found\); create the Secret',
    "crash": r"server exits again and again \(smoke image 1: upload: not a readable image\); see kubectl -n vision",
    "fetch": r"fetch exits again and again \(s3://models/x: missing; deploy the model again\)",
    "damaged": r"fetch exits again and again \(s3://models/x: missing; deploy the model again\)",
    "oom": r"killed, out of memory; raise resources.limits.memory",
    "quota": r"exceeded quota: team, requested: cpu=1, used: cpu=4, limited: cpu=4; raise the ResourceQuota",
}


def test_pods_that_will_never_be_ready_are_named_and_the_old_ones_stay(endpoint, cluster, bundles):
    deploy(endpoint, bundles[0])
    before, spec = set(cluster.pods), cluster.find("deployments")["spec"]
    cluster.least_ready = 1000
    for fate, why in FATES.items():
        cluster.fates[fate] = fate
        message = refused(endpoint, bundles[1], fate)
        assert message.startswith(f"cells version {fate}: ")
        assert re.search(why, message), message
        assert message.endswith("; version 1 is restored")
        assert (endpoint.find().version, cluster.find("deployments")["spec"]) == ("1", spec)
    endpoint.start()  # waits until the old state is restored
    assert set(cluster.pods) == before
    assert cluster.least_ready == 1


def test_an_init_container_that_failed_once_is_given_its_next_attempt(endpoint, cluster, bundles):
    cluster.fates["1"] = "stumbles"
    deploy(endpoint, bundles[0])
    assert endpoint.find().is_ready


def test_a_first_failure_is_in_the_message_when_the_time_is_over(cluster, store, bundles):
    cluster.fates["1"] = "damaged"
    message = refused(make(store, timeout=1e-6), bundles[0])
    assert re.search(r"not ready in 0 s \(.*\); .*: fetch exited and is restarting \(s3://models/x", message), message


@pytest.mark.parametrize(
    ("is_ready", "said"), [("False", "0 of 1 new pods are ready"), ("True", "1 old pods still run")]
)
def test_old_pods_are_waited_for_once_the_new_ones_are_ready(is_ready, said):
    status = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1}
    live = {"metadata": {"generation": 2}, "spec": {"replicas": 1}, "status": status}
    new = {"status": {"phase": "Pending", "conditions": [{"type": "Ready", "status": is_ready}]}}
    assert make("s3://models/bundles").rollout(live, [new]).progress == said


@pytest.mark.parametrize(
    ("fate", "why"),
    [("slow", "raise timeout if the pods only need more time"), ("pending", "does not fit on any node .*; add nodes")],
)
def test_what_may_yet_come_is_waited_for_until_the_deadline(cluster, store, bundles, fate, why):
    cluster.fates["1"] = fate
    message = refused(make(store, timeout=0.05), bundles[0])
    assert "not ready in 0 s (0 of 1" in message
    assert re.search(why, message), message
    assert message.endswith("nothing served before, so all objects were removed")
    assert (cluster.names(), cluster.pods) == (set(), {})


def test_a_change_that_somebody_else_came_before_is_tried_once_more(endpoint, cluster, bundles):
    deploy(endpoint, bundles[0])
    cluster.faults = [refusal(409, "the object has been modified", verb="PUT", plural="deployments", times=1)]
    deploy(endpoint, bundles[1], "2")
    assert endpoint.find().version == "2"
    cluster.faults = [refusal(409, "the object has been modified", verb="PUT", plural="deployments", times=2)]
    message = refused(endpoint, bundles[0], "3")
    assert "Deployment visionops-cells in namespace vision: changed by another client at the same time" in message
    assert endpoint.find().version == "2"


def test_what_somebody_else_deployed_in_between_stays(endpoint, cluster, bundles):
    def deploy_another(request) -> None:
        if request.method.value == "GET" and request.resource.plural == "deployments":
            live = cluster.find("deployments")
            if live["metadata"]["annotations"]["visionops/version"] == "2":
                cluster.faults = []
                changed = copy.deepcopy(live)
                changed["metadata"]["annotations"]["visionops/version"] = "3"
                changed["spec"]["template"]["spec"]["containers"][0]["env"][-1]["value"] = "another"
                cluster.objects[request.resource, NAMESPACE, "visionops-cells"] = changed

    deploy(endpoint, bundles[0])
    cluster.faults = [deploy_another]
    message = refused(endpoint, bundles[1], "2")
    assert "replaced by another deployment; check which model should serve; version 3 is restored" in message
    endpoint.start()
    assert endpoint.find().version == "3"


def test_somebody_who_makes_it_at_the_same_time_is_no_error(endpoint, cluster, bundles):
    cluster.faults = [refusal(409, "already exists", verb="POST", plural="services", times=1)]
    deploy(endpoint, bundles[0])
    assert endpoint.find().is_ready


REFUSALS = [
    (403, FORBIDDEN, r"lacks the right to create deployments\.apps; grant it \(docs/how-to/kubernetes.md"),
    (403, "x is forbidden: exceeded quota: team, used: 4", r": exceeded quota: team, used: 4; raise the ResourceQuota"),
    (401, "Unauthorized", r"http://127.0.0.1:\d+: invalid or missing login \(Unauthorized\); log in"),
    (422, "spec.x: Invalid value", r"refused with status 422 \(spec.x: Invalid value\)"),
    (500, "etcdserver: request timed out", r"refused with status 500 \(etcdserver"),
]


def test_what_the_api_refuses_is_named_and_half_of_it_removed(endpoint, cluster, bundles):
    for status, said, expected in REFUSALS:
        cluster.faults = [refusal(status, said, verb="POST", plural="deployments")]
        message = refused(endpoint, bundles[0])
        assert re.search(expected, message), message
        assert cluster.names() == set()


def test_no_namespace_no_kind_no_cluster(cluster, store, bundles, monkeypatch, tmp_path):
    cluster.kinds = KINDS - {"seldondeployments"}
    assert "unknown kind in this cluster; install its operator" in refused(make(store, SeldonEndpoint), bundles[0])
    message = refused(make(store, namespace="absent"), bundles[0])
    assert "namespace absent: does not exist; kubectl create namespace absent" in message
    assert "no cluster: the kubeconfig cannot be used" in refused(make(store, kubernetes_context="x"), bundles[0])
    assert "the pod's service account cannot be used" in refused(make(store, incluster=True), bundles[0])
    config = tmp_path / "kubeconfig"
    config.write_text(config.read_text().replace("127.0.0.1:", "127.0.0.1:1#"))
    assert "the cluster does not answer" in refused(make(store), bundles[0])
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    assert "set KUBECONFIG, kubernetes_context or incluster" in refused(make(store), bundles[0])
    # A step in a pod has no kubeconfig.
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    said = refused(make(store, kubernetes_context="x"), bundles[0])
    assert "no cluster: the pod's service account cannot be used" in said


def test_what_is_not_ours_is_left_alone(endpoint, cluster, bundles):
    foreign = {"metadata": {"name": "visionops-cells", "generation": 1, "resourceVersion": "1"}, "spec": {}}
    cluster.objects["v1/services", NAMESPACE, "visionops-cells"] = foreign
    assert "exists in namespace vision but is not ours" in refused(endpoint, bundles[0])
    assert cluster.names() == {"services/visionops-cells"}


def test_a_damaged_bundle_or_a_store_that_is_away_changes_nothing(endpoint, cluster, store, bundles, tmp_path):
    deploy(endpoint, bundles[0])
    before = cluster.find("deployments")
    with pytest.raises(BundleError):
        deploy(endpoint, tmp_path, "2")
    with pytest.raises(DataError, match="absent-bucket"):
        deploy(make("s3://absent-bucket/x"), bundles[1], "2")
    assert cluster.find("deployments") == before


@contextmanager
def answering(version: str) -> Iterator[str]:
    """Run a server that reports a version."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps({"version": version}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_reachable_service_is_checked(cluster, store, bundles, monkeypatch):
    with answering("1") as url:
        reachable = make(store, service_url=url)
        assert deploy(reachable, bundles[0]) == ""
        monkeypatch.setattr("stacks.deployers.rollout._ANSWER_SECONDS", 0.05)
        message = refused(reachable, bundles[1], "2")
    assert f"its pods are ready, but {url} answers with version 1; check service_url or ingress" in message
    assert reachable.find().version == "1"


@pytest.mark.parametrize("kind", [SeldonEndpoint, KServeEndpoint])
def test_other_kinds_wait_for_their_pods(cluster, store, bundles, kind):
    endpoint = make(store, kind, replicas=2)
    deploy(endpoint, bundles[0])
    assert len(cluster.pods) == 2
    cluster.fates["2"] = "image"
    assert "ImagePullBackOff" in refused(endpoint, bundles[1], "2")
    assert (endpoint.find().version, endpoint.find().is_ready) == ("1", True)
    endpoint.stop()
    assert (cluster.pods, endpoint.find().is_stopped) == ({}, True)
    endpoint.start()
    assert len(cluster.pods) == 2
    endpoint.delete()
    assert cluster.names() == set()


def test_what_operators_say_of_failures():
    seldon = object.__new__(SeldonEndpoint)
    assert seldon.failure({"state": "Failed", "description": "no such image"}) == "Seldon refuses it (no such image)"
    assert seldon.failure({"state": "Creating"}) == ""
    kserve = object.__new__(KServeEndpoint)
    said = {"modelStatus": {"transitionStatus": "InvalidSpec", "lastFailureInfo": {"message": "no container"}}}
    assert kserve.failure(said) == "KServe refuses it (no container)"
    assert kserve.failure({}) == ""


def test_names_of_objects():
    assert object_name("cells") == "visionops-cells"
    names = {object_name(name) for name in ("a.b", "a-b", "A-B", "a_b", "x" * 63)}
    assert len(names) == 5
    assert all(len(name) <= 50 and name.replace("-", "").isalnum() and name == name.lower() for name in names)


def test_the_role_in_the_docs_matches_the_requests(cluster, store, bundles):
    """Run the life of an endpoint with all optional objects, and compare the API requests with the Role."""
    requested: set[tuple[str, str]] = set()

    def note(request):
        verb = {"GET": "get" if request.name else "list", "POST": "create", "PUT": "update", "DELETE": "delete"}
        resource = request.resource.plural + (f"/{request.subresource}" if request.subresource else "")
        requested.add((resource, verb[request.method.value]))

    cluster.faults.append(note)
    keda = {"prometheus": "http://prometheus.vision.svc:9090"}
    endpoint = make(store, autoscaling={"keda": keda}, ingress={"host": "cells.example"})
    for times in range(2):  # created, then changed
        deploy(endpoint, bundles[0])
        keda["queue_depth"] = 8
        endpoint = make(store, autoscaling={"keda": keda} if not times else {}, ingress={"host": "cells.example"})
    deploy(endpoint, bundles[0])
    cluster.fates["2"] = "crash"
    refused(endpoint, bundles[1], "2")
    for key, live in list(cluster.objects.items()):
        if key[0].plural not in WORKLOADS and not live.deleted:  # as if an older deployer had created them
            metadata = live.raw["metadata"] | {"labels": {MANAGED_BY: "visionops"}}
            cluster.objects[key] = live.raw | {"metadata": metadata}
    deploy(endpoint, bundles[1], "3")
    endpoint.stop()
    endpoint.start()
    endpoint.delete()
    (text,) = re.findall(r"```yaml\n(apiVersion: rbac.*?)```", PAGE.read_text(), re.DOTALL)
    rules = yaml.safe_load(text)["rules"]
    assert requested == {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
