"""Test a pipeline on the `kubernetes` stack through the Jobs that ZenML sends to the API server."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import kubernetes_validate
import pytest
from kmock import KubernetesError

import stacks.apply as apply_module
import stacks.following as following_module
import stacks.session as session_module
from launch import TrainRequest
from launch.preparation import PipelineCall
from launch.service import start_call
from stacks.integrations import leave_out_unused_integrations
from stacks.run_options import DagPlan, pod_settings, run_options
from stacks.same_code import CODE_VARIABLE, code_digest
from stacks.session import placement
from stacks.spec import ComponentSpec, ComponentType, StackSpec, load_stack
from stacks.steps import StepSpec
from tests.conftest import ROOT
from tests.helpers.admission import webhook
from tests.helpers.cluster import LOG, NAMESPACE, Cluster, running_cluster
from tests.helpers.s3 import s3_bucket, s3_server
from tests.stacks.test_spec import CLUSTER
from visionops.config import load_config
from visionops.errors import StackError

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML, SQLAlchemy and MLflow warn of their own code

STEPS = [
    "ingest",
    "recall_split_history",
    "validate_data",
    "prepare",
    "convert",
    "train",
    "evaluate",
    "register",
    "gate",
    "release_model",
]
NAMES = dict(zip(STEPS, STEPS, strict=True))
VARIABLES = CLUSTER | {
    "VISIONOPS_PIPELINE_GPU_IMAGE": "registry/pipeline-gpu:1",
    "VISIONOPS_TRAIN_GPUS": "1",
    "VISIONOPS_TRAIN_CLAIM": "shards",
    "VISIONOPS_KUBERNETES_LOCAL": "true",  # otherwise ZenML requires a server that pods reach
}


@pytest.fixture(scope="module")
def submit(module_zenml_home, tmp_path_factory) -> Iterator[Callable[[StackSpec], Any]]:
    """Return a function that submits the sample's training to a cluster that finishes Jobs at once."""
    from zenml.client import Client

    from pipelines.training import training

    def say_done(request: Any) -> None:
        if (request.method.value, request.resource.plural) == ("POST", "jobs"):
            request.data["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}

    with (
        running_cluster(tmp_path_factory.mktemp("cluster")) as cluster,
        s3_server() as address,
        s3_bucket(address, "vision"),
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in (VARIABLES | {"VISIONOPS_S3_ENDPOINT": address}).items():
            patch.setenv(name, value)
        patch.setattr(following_module, "_POLL_S", 0.1)
        cluster.kinds |= {"jobs", "serviceaccounts", "rolebindings"}
        cluster.faults.append(say_done)
        leave_out_unused_integrations()
        patch.setattr(apply_module, "load_stack", lambda name: quick(load_stack(name)))
        apply_module.apply("kubernetes")
        Client().activate_stack("kubernetes")
        config = load_config(ROOT / "configs" / "sample.yaml")

        def submit(spec: StackSpec) -> Any:
            patch.setattr(session_module, "load_stack", lambda _: spec)
            options = placement(training, config=config, source_fingerprint="x")
            return training.with_options(**options)(config=config, source_fingerprint="x").snapshot

        submit.cluster = cluster
        yield submit


def jobs(cluster: Cluster) -> dict[str, dict[str, Any]]:
    """Return the Jobs by step, "" for the orchestrator, without null fields, as the API server stores them."""
    found = {}
    for (resource, _, _), live in cluster.objects.items():
        if resource.plural == "jobs":
            manifest = without_null({k: v for k, v in live.raw.items() if k != "status"})
            name = manifest["metadata"]["annotations"].get("zenml.io/step-name", "")
            found[name] = {"apiVersion": "batch/v1", "kind": "Job", **manifest}
    return found


def without_null(value: Any) -> Any:
    if isinstance(value, dict):
        # ZenML adds null settings of a container in Python's spelling.
        return {k: without_null(v) for k, v in value.items() if v is not None}
    return [without_null(v) for v in value] if isinstance(value, list) else value


def start_steps(cluster: Cluster) -> None:
    """Run the program of the orchestrator's pod with its arguments in this process."""
    from kubernetes import client, config
    from zenml.integrations.kubernetes.orchestrators import kubernetes_orchestrator_entrypoint

    job = jobs(cluster)[""]
    config.load_kube_config()
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job["metadata"]["name"], "uid": "1"}
    metadata = {
        "name": socket.gethostname(),
        "labels": {"job-name": job["metadata"]["name"]},
        "ownerReferences": [owner],
    }
    pods = client.CoreV1Api()
    pods.create_namespaced_pod(NAMESPACE, {"metadata": metadata})
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["orchestrator", *job["spec"]["template"]["spec"]["containers"][0]["args"]])
            kubernetes_orchestrator_entrypoint.main()
    finally:
        pods.delete_namespaced_pod(metadata["name"], NAMESPACE)  # the next test has a pod of the same name


def quick(spec: StackSpec) -> StackSpec:
    """Make ZenML check Jobs more often."""
    old = spec.components[ComponentType.ORCHESTRATOR]
    settings = old.configuration | {"job_monitoring_interval": 0.05}
    new = ComponentSpec(name=old.name, flavor=old.flavor, configuration=settings)
    return spec.model_copy(update={"components": spec.components | {ComponentType.ORCHESTRATOR: new}})


def test_each_step_is_a_job_with_what_the_stack_file_says(submit):
    snapshot = submit(load_stack("kubernetes"))
    start_steps(submit.cluster)
    made = jobs(submit.cluster)
    assert set(made) == {"", *STEPS}
    for manifest in made.values():
        for version in ("1.30", "1.35"):
            kubernetes_validate.validate(manifest, version, strict=True)
    pods = {name: manifest["spec"]["template"]["spec"] for name, manifest in made.items()}
    containers = {name: pod["containers"][0] for name, pod in pods.items()}
    assert {name: c["image"] for name, c in containers.items() if name != "train"} == dict.fromkeys(
        ["", *(step for step in STEPS if step != "train")], "registry/pipeline:1"
    )
    train = containers["train"]
    assert train["image"] == "registry/pipeline-gpu:1"
    assert train["resources"]["limits"] == {"memory": "8Gi", "nvidia.com/gpu": "1"}
    assert {"name": "scratch", "persistentVolumeClaim": {"claimName": "shards"}} in pods["train"]["volumes"]
    assert {"name": "scratch", "emptyDir": {"sizeLimit": "20Gi"}} in pods["evaluate"]["volumes"]
    assert made["train"]["spec"]["activeDeadlineSeconds"] == 172800
    assert "activeDeadlineSeconds" not in made["evaluate"]["spec"]
    for name, container in containers.items():
        variables = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert variables[CODE_VARIABLE] == code_digest()
        assert variables["VISIONOPS_HOME"] == "/scratch/visionops", name
        assert variables["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:")
        assert container["envFrom"] == [{"secretRef": {"name": "s3"}}]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts.items() >= {"scratch": "/scratch", "cache": "/cache", "shm": "/dev/shm"}.items()
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
    images = {item.image for item in snapshot.build.images.values()}
    assert images == {"registry/pipeline:1", "registry/pipeline-gpu:1"}


def test_what_a_step_is_given_is_no_part_of_its_cache_key(submit):
    from zenml.client import Client
    from zenml.orchestrators.cache_utils import generate_cache_key

    def keys(spec: StackSpec) -> dict[str, str]:
        client = Client()
        steps = submit(spec).step_configurations
        store, project = client.active_stack.artifact_store, client.active_project.id
        return {name: generate_cache_key(step, {}, store, project) for name, step in steps.items()}

    spec = load_stack("kubernetes")
    richer = StepSpec.model_validate(
        {
            "image": "other:2",
            "cpu": 8,
            "memory": "64Gi",
            "gpu": 4,
            "environment": {"A": "1"},
            "node_selector": {"pool": "gpu"},
            "tolerations": [{"key": "gpu"}],
            "timeout": 60,
            "retries": 2,
            "scratch": {"storage_class": "fast"},
        }
    )
    assert keys(spec) == keys(spec.model_copy(update={"steps": dict.fromkeys(STEPS, richer) | {"default": richer}}))


def test_a_pod_as_full_as_it_can_be_holds_to_the_schemas(submit):
    step = StepSpec.model_validate(
        {
            "image": "other:2",
            "cpu": 0.5,
            "memory": "64Gi",
            "gpu": 4,
            "gpu_resource": "amd.com/gpu",
            "environment": {"A": "1"},
            "env_from": [{"configMapRef": {"name": "proxy", "optional": True}}],
            "image_pull_secrets": ["registry"],
            "node_selector": {"pool": "gpu"},
            "tolerations": [{"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}],
            "timeout": 60,
            "retries": 2,
            "scratch": {"storage_class": "fast", "size": "1Ti"},
            "run_as": None,
        }
    )
    before = set(submit.cluster.names())
    submit(load_stack("kubernetes").model_copy(update={"steps": {"default": step, "orchestrator": step}}))
    (name,) = (name for name in submit.cluster.names() - before if name.startswith("jobs/"))
    (live,) = (o.raw for (r, _, n), o in submit.cluster.objects.items() if f"{r.plural}/{n}" == name)
    manifest = {"apiVersion": "batch/v1", "kind": "Job", **without_null({k: live[k] for k in ("metadata", "spec")})}
    for version in ("1.30", "1.35"):
        kubernetes_validate.validate(manifest, version, strict=True)
    pod = manifest["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"pool": "gpu"}
    assert pod["tolerations"] == [{"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}]
    assert pod["containers"][0]["resources"]["limits"] == {"memory": "64Gi", "amd.com/gpu": "4"}
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert "runAsUser" not in pod_settings(step)["additional_pod_spec_args"]["security_context"]


@pytest.mark.parametrize("fate", ["refused", "failed"])
def test_what_goes_wrong_on_the_cluster_is_one_line(submit, fate):
    from pipelines.training import training

    def spoil(request: Any) -> KubernetesError | None:
        if (request.method.value, request.resource.plural) != ("POST", "jobs"):
            return None
        if fate == "refused":
            return KubernetesError(status=403, reason="Forbidden", message="jobs is forbidden: no right to create")
        failed = {"type": "Failed", "status": "True", "message": "Job has reached the specified backoff limit"}
        request.data["status"] = {"conditions": [failed]}
        return None

    submit.cluster.faults.append(spoil)
    # Another name, because a run of another test may still be active under this one.
    config = load_config(ROOT / "configs" / "sample.yaml").model_copy(update={"name": f"{fate}-on-the-cluster"})
    says = {"refused": r"\(403\)|forbidden", "failed": "specified backoff limit"}[fate]
    with pytest.raises(StackError, match=f"stack 'kubernetes': .*({says}).*; see the logs of its pods") as caught:
        start_call(PipelineCall(training, {"source_fingerprint": "x"}), TrainRequest(), config, DagPlan())
    submit.cluster.faults.remove(spoil)
    assert "\n" not in str(caught.value)


def test_a_run_that_is_not_admitted_is_one_line(submit, monkeypatch):
    from pipelines.training import training

    monkeypatch.setattr(submit.cluster, "admission", [webhook("jobs", "no label\n\nowner", status=400)])
    # Another name, because a run of another test may still be active under this one.
    config = load_config(ROOT / "configs" / "sample.yaml").model_copy(update={"name": "refused"})
    with pytest.raises(StackError) as caught:
        start_call(PipelineCall(training, {"source_fingerprint": "x"}), TrainRequest(), config, DagPlan())
    assert str(caught.value).startswith(
        "stack 'kubernetes': admission webhook \"policy.plant.example\" denied the request: no label owner; change the "
        "setting named here, or the cluster's policy; see the logs"
    )


def test_a_step_that_is_not_admitted_is_named_when_the_run_has_failed(submit, monkeypatch, caplog):
    from zenml.client import Client

    cluster = submit.cluster
    for key in [key for key in cluster.objects if key[0].plural == "jobs"]:
        del cluster.objects[key]
    monkeypatch.setattr(cluster, "admission", [webhook("jobs", "no label owner", only="-ingest-")])
    submit(load_stack("kubernetes"))
    (run_,) = Client().list_pipeline_runs(sort_by="desc:created", size=1).items
    start_steps(cluster)
    monkeypatch.setitem(LOG, "main", caplog.text)  # the log of the pod that starts steps
    job = jobs(cluster)[""]
    labels = {"job-name": job["metadata"]["name"]}
    manifest = {"metadata": {"name": "starter", "labels": labels}, "status": {}}
    monkeypatch.setitem(cluster.pods, "starter", {"owner": None, "mark": "", "ready": False, "manifest": manifest})
    with pytest.raises(StackError) as caught:
        session_module.require_success(run_)
    assert str(caught.value) == (
        f'run {run_.name}: failed; admission webhook "policy.plant.example" denied the request: no label owner; change '
        "the setting named here, or the cluster's policy"
    )


def test_where_steps_run_in_this_process_nothing_is_given():
    local = load_stack("local")
    fed = local.model_copy(update={"steps": {"train": StepSpec(cpu=4, memory="8Gi")}})
    assert run_options(local, NAMES) == run_options(fed, NAMES) == {}


def test_a_stack_of_containers_needs_an_image():
    spec = load_stack("kubernetes", CLUSTER).model_copy(update={"steps": {}})
    with pytest.raises(
        StackError, match=r"'kubernetes': runs steps in containers but has no image; set steps\.default\.image"
    ):
        run_options(spec, NAMES)


def test_a_step_that_runs_many_times_is_given_the_same_each_time():
    spec = load_stack("kubernetes", CLUSTER)
    spec = spec.model_copy(update={"steps": spec.steps | {"predict_shard": StepSpec(memory="3Gi")}})
    options = run_options(spec, {"predict_1_of_2": "predict_shard", "predict_2_of_2": "predict_shard"})["steps"]
    pods = [step["settings"]["orchestrator"]["pod_settings"] for step in options.values()]
    assert [pod["resources"]["limits"]["memory"] for pod in pods] == ["3Gi", "3Gi"]


def test_a_step_of_a_step_operator_requests_resources():
    spec = load_stack("kubernetes", CLUSTER)
    operator = ComponentSpec(name="gpus", flavor="vertex")
    train = spec.steps["train"].model_copy(update={"step_operator": True, "gpu": 2, "retries": 1})
    spec = spec.model_copy(
        update={
            "components": spec.components | {ComponentType.STEP_OPERATOR: operator},
            "steps": spec.steps | {"train": train},
        }
    )
    options = run_options(spec, NAMES)["steps"]
    assert options["train"]["step_operator"] == "gpus"
    assert options["train"]["retry"] == {"max_retries": 1}
    assert options["train"]["settings"]["resources"] == {"cpu_count": 2, "memory": "8GiB", "gpu_count": 2}
    assert "step_operator" not in options["evaluate"]


def test_a_run_whose_step_failed_elsewhere_has_failed(submit):
    """The orchestrator's Job still ends without error."""
    from zenml.client import Client
    from zenml.enums import ExecutionStatus
    from zenml.models import PipelineRunUpdate

    submit(load_stack("kubernetes"))
    (run_,) = Client().list_pipeline_runs(sort_by="desc:created", size=1).items
    session_module.require_success(run_)
    Client().zen_store.update_run(run_.id, PipelineRunUpdate(status=ExecutionStatus.FAILED))
    with pytest.raises(StackError, match=f"run {run_.name}: failed; see the step's log"):
        session_module.require_success(run_)
