"""Test the checks of clusters and of the components in them."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from stacks.doctor.cluster import (
    check_airflow_orchestrator,
    check_bundle_store,
    check_cluster_deployer,
    check_kubernetes_orchestrator,
    check_serving_image,
)
from stacks.doctor.findings import Examined, State
from stacks.spec import ComponentType
from stacks.steps import StepSpec
from tests.helpers.cluster import refusal
from tests.helpers.doctor import deployer, examined, keep, trouble, well

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML, SQLAlchemy and MLflow warn of their own code


def test_a_namespace_that_has_all(cluster):
    keep("s3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    seen = well(check_cluster_deployer(deployer(bundle_store_secret="s3")))
    assert "Kubernetes 1.31, 33 rights, 1 objects" in seen
    for flavor in ("visionops_seldon", "visionops_kserve"):
        assert "rights" in well(check_cluster_deployer(deployer(flavor)))
    assert cluster.names() == {"secrets/s3"}


@pytest.mark.parametrize(
    ("flavor", "harm", "says"),
    [
        (
            "kubernetes",
            lambda c: c.namespaces.clear(),
            "namespace vision of .*: does not exist; kubectl create namespace",
        ),
        (
            "kubernetes",
            lambda c: c.denied.update({"create deployments", "update deployments", "get pods/log"}),
            "lacks the right to create, update Deployment; get Pod/log; grant them: docs/how-to/kubernetes.md",
        ),
        ("kubernetes", lambda c: setattr(c, "version", ("1", "27+")), "Kubernetes 1.27, but .* needs 1.30; upgrade"),
        ("seldon", lambda c: c.kinds.remove("seldondeployments"), "unknown kind SeldonDeployment; install Seldon"),
        ("kserve", lambda c: c.kinds.remove("inferenceservices"), "unknown kind InferenceService; install KServe"),
        (
            "kubernetes",
            lambda c: c.faults.append(refusal(401, "Unauthorized")),
            r"invalid or missing login \(Unauthorized\); log in to the cluster again",
        ),
    ],
)
def test_what_is_wrong_with_a_cluster_is_named(cluster, flavor, harm, says):
    harm(cluster)
    seen = trouble(check_cluster_deployer(deployer(f"visionops_{flavor}")))
    assert re.search(says, seen), seen


def test_secrets_that_the_stack_names_are_looked_for(cluster):
    seen = trouble(check_cluster_deployer(deployer(bundle_store_secret="s3")))
    assert "missing Secret s3, which the stack names; kubectl -n vision create secret generic s3 --from-" in seen
    keep("s3", "AWS_ACCESS_KEY_ID")
    seen = trouble(check_cluster_deployer(deployer(bundle_store_secret="s3")))
    assert "Secret s3: lacks AWS_SECRET_ACCESS_KEY; add" in seen
    assert objects_needed_by_steps(env_from=[{"secretRef": {"name": "steps"}}], image_pull_secrets=["pull"]) == [
        "namespace vision: missing Secret pull, which the stack names",
        "namespace vision: missing Secret steps, which the stack names",
    ]
    keep("steps")
    sources = [{"secretRef": {"name": "steps"}}, {"secretRef": {"name": "none", "optional": True}}]
    assert objects_needed_by_steps(env_from=sources, scratch={"claim": "images"}) == [
        "namespace vision: missing PersistentVolumeClaim images, which the stack names"
    ]


def objects_needed_by_steps(**step: Any) -> list[str]:
    """Return the findings for missing objects."""
    component = examined("orchestrator", "kubernetes", kubernetes_namespace="vision", service_account_name="")
    stack = component.stack.model_copy(update={"steps": {"train": StepSpec(**step)}})
    found = check_kubernetes_orchestrator(Examined(component.component, stack))
    return [finding.observed for finding in found if finding.state is State.BROKEN]


def test_an_orchestrator_needs_rights_of_its_own(cluster):
    own = {"kubernetes_namespace": "vision"}
    cluster.denied = {"create jobs", "create rolebindings"}
    seen = trouble(check_kubernetes_orchestrator(examined("orchestrator", "kubernetes", **own)))
    assert "lacks the right to create Job; create RoleBinding; grant them" in seen
    cluster.denied = {"create rolebindings"}
    component = examined("orchestrator", "kubernetes", service_account_name="runner", **own)
    assert "missing ServiceAccount runner, which the stack names; kubectl -n vision create serviceaccount runner" in (
        trouble(check_kubernetes_orchestrator(component))
    )
    keep("runner", kind="ServiceAccount")
    assert well(check_kubernetes_orchestrator(component))


def test_an_orchestrator_without_events_is_a_warning(cluster):
    cluster.denied = {"list events"}
    found = list(check_kubernetes_orchestrator(examined("orchestrator", "kubernetes", kubernetes_namespace="vision")))
    assert [one.state for one in found if "lacks the right to list Event" in one.observed] == [State.WARNING]


def test_airflow_needs_a_place_for_dags_and_what_its_pods_are_given(cluster, tmp_path, s3, monkeypatch):
    own = {"dag_output_dir": str(tmp_path / "dags"), "operator_args": {"namespace": "vision"}}
    component = examined("orchestrator", "airflow", **own)
    components = component.stack.components | {ComponentType.MODEL_DEPLOYER: deployer().component}
    steps = {"default": StepSpec(env_from=({"secretRef": {"name": "s3"}},))}
    stack = component.stack.model_copy(update={"components": components, "steps": steps})
    seen = trouble(check_airflow_orchestrator(Examined(component.component, stack)))
    assert "missing Secret s3, which the stack names" in seen
    keep("s3")
    assert "1 objects" in well(check_airflow_orchestrator(Examined(component.component, stack)))
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
    for place, says in (("s3://vision/dags", ""), ("s3://none/dags", "no such bucket"), ("", "set dag_output_dir")):
        found = list(check_airflow_orchestrator(examined("orchestrator", "airflow", dag_output_dir=place)))
        assert says in (trouble(found) if says else well(found))


def test_bundles_and_images_of_a_deployer_are_looked_for(s3, nobody, monkeypatch):
    host = nobody.removeprefix("http://")
    component = deployer(image=f"{host}/serving:1", bundle_store_endpoint="http://minio:9000")
    seen = trouble(check_serving_image(component))
    assert seen.startswith("warning: image")
    assert "connection refused" in seen
    assert "listed, written, read" in well(check_bundle_store(component))
    monkeypatch.setenv("AWS_ENDPOINT_URL", nobody)
    assert "s3://vision at http" in trouble(check_bundle_store(component))
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", nobody)  # tests never contact Amazon
    first = next(check_bundle_store(component))
    assert (first.state, first.fix.partition(" to")[0]) == (State.WARNING, "set AWS_ENDPOINT_URL")


def test_a_cluster_that_is_away_or_unknown_is_named(cluster, nobody):
    seen = trouble(check_cluster_deployer(deployer(kubernetes_context="other")))
    assert "other" in seen
    assert "set KUBECONFIG, kubernetes_context or incluster; known contexts: test" in seen
    kubeconfig = Path(os.environ["KUBECONFIG"])
    host = next(line for line in kubeconfig.read_text().splitlines() if "server:" in line).split()[-1]
    kubeconfig.write_text(kubeconfig.read_text().replace(host, nobody))
    seen = trouble(check_cluster_deployer(deployer()))
    assert (
        f"{nobody}: the cluster does not answer ([Errno 111] Connection refused); check the context and the network"
        in seen
    )
