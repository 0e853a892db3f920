"""The doctor names one broken thing at a time and its mend: against real parts, where these are quick to start."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import io
import json
import os
import re
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import boto3
import pytest
from alembic.script import ScriptDirectory
from rich.console import Console

import stacks.doctor.diagnosis as diagnosis_module
import stacks.doctor.report as report_module
import stacks.doctor.tracking as tracking_module
from stacks.apply import apply
from stacks.deployers.api import Namespace
from stacks.deployers.manifests.settings import KubernetesDeployerConfig
from stacks.doctor.__main__ import main
from stacks.doctor.alerting import check_alertmanager, check_pushgateway
from stacks.doctor.cluster import (
    check_airflow_orchestrator,
    check_bundle_store,
    check_cluster_deployer,
    check_kubernetes_orchestrator,
    check_serving_image,
)
from stacks.doctor.diagnosis import Diagnosis, diagnose
from stacks.doctor.findings import Examined, Finding, State
from stacks.doctor.machine import check_artifact_folder, check_container_deployer, check_folder, check_image_builder
from stacks.doctor.registries import check_container_registry, check_image
from stacks.doctor.s3 import check_s3_store
from stacks.doctor.server import check_server_for_pods, check_zenml, with_secrets
from stacks.doctor.tracking import check_registry, check_tracker
from stacks.spec import ComponentSpec, ComponentType, StackSpec, load_stack
from stacks.steps import StepSpec
from tests.helpers.cluster import Cluster, refusal, running_cluster
from tests.helpers.disks import mounted
from tests.helpers.s3 import guarded_users, s3_bucket, s3_server
from tests.helpers.web import Answers, answering
from tests.stacks.test_spec import CLUSTER
from visionops.errors import StackError

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML, SQLAlchemy and MLflow warn of their own code

MLFLOW = version("mlflow")
ALL = ["s3:ListBucket", "s3:PutObject", "s3:GetObject", "s3:DeleteObject"]


def examined(kind: str, flavor: str, orchestrator: str = "local", **configuration: Any) -> Examined:
    component = ComponentSpec(name="x", flavor=flavor, configuration=configuration)
    components = {
        ComponentType.ORCHESTRATOR: ComponentSpec(name="x", flavor=orchestrator),
        ComponentType.ARTIFACT_STORE: ComponentSpec(name="x", flavor="local"),
    }
    return Examined(component, StackSpec(name="x", components=components | {ComponentType(kind): component}))


def trouble(findings: Iterator[Finding] | Sequence[Finding]) -> str:
    """The one thing that is not well, and its mend."""
    (found,) = [finding for finding in findings if finding.state is not State.OK]
    assert "\n" not in found.saw + found.mend
    assert found.mend
    return f"{found.state}: {found.saw}; {found.mend}"


def well(findings: Iterator[Finding] | Sequence[Finding]) -> str:
    """What was seen where all is well."""
    found = list(findings)
    assert found
    assert {finding.state for finding in found} == {State.OK}
    return "; ".join(finding.saw for finding in found)


def rows(diagnosis: Diagnosis, state: State) -> set[str]:
    return {row.what for row in diagnosis.rows if row.state is state}


@pytest.fixture(scope="module")
def nobody() -> Iterator[str]:
    """Address at which nobody listens, and nobody can."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


# Buckets


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as address, s3_bucket(address, "vision"):
        yield address


def store(address: str, key: str = "me", secret: str = "mine", path: str = "s3://vision/artifacts") -> Examined:
    own = {"client_kwargs": {"endpoint_url": address}, "path": path, "key": key, "secret": secret}
    return examined("artifact_store", "s3", **own)


def objects(address: str) -> list[str]:
    client = boto3.client("s3", endpoint_url=address)
    return [found["Key"] for found in client.list_objects_v2(Bucket="vision").get("Contents", ())]


def test_a_bucket_is_listed_written_and_left_as_it_was(s3):
    assert "listed, written, read" in well(check_s3_store(store(s3)))
    assert objects(s3) == []


def test_what_a_store_refuses_is_named(s3):
    rights = {"all": ALL, "reader": ["s3:ListBucket"], "blind": ALL[1:], "keeper": ALL[:3]}
    with guarded_users(s3, rights) as users:

        def seen(user: str, secret: str = "", path: str = "s3://vision/artifacts") -> str:
            key, own = users.get(user, (user, ""))
            return trouble(check_s3_store(store(s3, key, secret or own, path)))

        assert "does not know the access key; set the component's key and secret" in seen("AKIAX", "x")
        assert "the secret does not belong to the access key; set" in seen("all", "wrong")
        assert "s3://other at http" in seen("all", path="s3://other")
        assert "no such bucket; make it: aws s3 mb s3://other" in seen("all", path="s3://other/a")
        assert "can be listed, not written; grant this user s3:PutObject on vision/artifacts*" in seen("reader")
        assert "may not be listed; grant this user s3:ListBucket" in seen("blind")
        left = seen("keeper")
        assert left.startswith("warning: s3://vision/artifacts/visionops-doctor-")
        assert "cannot be deleted; grant this user s3:DeleteObject" in left
    (key,) = objects(s3)
    boto3.client("s3", endpoint_url=s3).delete_object(Bucket="vision", Key=key)


def test_a_store_that_is_away_is_named(nobody):
    assert "does not answer (connection refused); start the store, or correct" in trouble(check_s3_store(store(nobody)))


def test_credentials_that_are_not_there_are_named(monkeypatch, tmp_path, nobody):
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    seen = trouble(check_s3_store(store(nobody, "", "")))
    assert "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in seen


def test_what_names_no_bucket_is_refused():
    assert "/tmp/x: names no bucket; write it as s3://" in trouble(check_s3_store(store("http://x", path="/tmp/x")))


# MLflow


def mlflow_answers(**changes: Any) -> dict[str, Any]:
    experiment = {"experiment_id": "0", "artifact_location": "mlflow-artifacts:/0"}
    return {
        "/version": MLFLOW,
        "/api/2.0/mlflow/experiments/search": {"experiments": [experiment]},
        "/api/2.0/mlflow/registered-models/search": {},
        "/api/2.0/mlflow-artifacts/artifacts": {"files": []},
    } | changes


def tracker(url: str, **own: Any) -> Examined:
    return examined("experiment_tracker", "mlflow", tracking_uri=url, **own)


def test_a_tracking_server_that_is_well():
    with answering(mlflow_answers(), authorization="Bearer good") as server:
        assert well(check_tracker(tracker(server.url, tracking_token="good"))) == f"{server.url}: MLflow {MLFLOW}"
        assert {asked.partition(" ")[0] for asked in server.asked} == {"GET"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"/version": "1.30.0"}, rf"broken: .*MLflow 1.30.0, here is {MLFLOW}; run MLflow {MLFLOW} there"),
        ({"/version": MLFLOW.partition(".")[0] + ".0.1"}, "warning: .*0.1 is older than .* here; run MLflow"),
        ({"/version": "<html>"}, "answers, not as MLflow does .*; set VISIONOPS_MLFLOW"),
        ({"/api/2.0/mlflow/experiments/search": "<html>"}, "not as MLflow does; log in at what stands before it"),
        ({"/api/2.0/mlflow/experiments/search": 403}, "forbids it .*; grant this user the right"),
        ({"/api/2.0/mlflow/experiments/search": 500}, "fails .*500.*; see the server's log; its database"),
        (
            {"/api/2.0/mlflow-artifacts/artifacts": 500},
            "cannot read its artifacts .*; give it credentials for its --artifacts-destination",
        ),
        (
            {"/api/2.0/mlflow/experiments/search": {"experiments": [{"artifact_location": "/mlruns/0"}]}},
            "warning: .*keeps artifacts in its own /mlruns/0, .*--serve-artifacts",
        ),
    ],
)
def test_what_is_wrong_with_a_tracking_server_is_named(changes, says):

    with answering(mlflow_answers(**changes)) as server:
        seen = trouble(check_tracker(tracker(server.url)))
    assert re.search(says, seen), seen


def test_a_tracking_server_that_is_away_or_refuses_the_login_is_named(nobody, monkeypatch):
    assert "does not answer (connection refused); start its server" in trouble(check_tracker(tracker(nobody)))
    with answering(mlflow_answers(), authorization="Bearer good") as server:
        seen = trouble(check_tracker(tracker(server.url, tracking_token="expired")))
        assert "refuses the login (401); set the token or the password anew (MLFLOW_TRACKING_TOKEN)" in seen
        registry = examined("model_registry", "mlflow")
        registry.stack.components[ComponentType.EXPERIMENT_TRACKER] = tracker(server.url).component
        monkeypatch.delenv("MLFLOW_TRACKING_TOKEN", raising=False)
        assert "refuses the login (401); set MLFLOW_TRACKING_TOKEN" in trouble(check_registry(registry))
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "good")
        assert well(check_registry(registry))


def test_a_tracking_database_of_another_version_is_named(tmp_path):
    def seen() -> list[Finding]:
        return list(check_tracker(tracker(f"sqlite:///{tmp_path}/mlflow.db")))

    def of_schema(name: str) -> None:
        with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num TEXT)")
            database.execute("DELETE FROM alembic_version")
            database.execute("INSERT INTO alembic_version VALUES (?)", [name])

    assert "writable" in well(seen())
    assert not (tmp_path / "mlflow.db").exists()
    of_schema("451aebb31d03")  # of MLflow 1.0
    assert "mlflow.db: of an older MLflow; copy it, then mlflow db upgrade sqlite:///" in trouble(seen())
    of_schema("fffffffffff0")
    assert "newer MLflow than" in trouble(seen())
    (tmp_path / "mlflow.db").write_bytes(b"no database at all, and longer than a header")
    assert "is no database of MLflow (file is not a database); restore it, or move it away" in trouble(seen())


def test_the_newest_version_of_a_database_is_the_one_that_alembic_finds():
    place = importlib.util.find_spec("mlflow")
    migrations = Path(place.submodule_search_locations[0], "store", "db_migrations")
    heads = ScriptDirectory(str(migrations)).get_heads()
    assert tracking_module._schemas()[1] == set(heads)


# Kubernetes


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with running_cluster(tmp_path) as cluster:
        yield cluster


def keep(name: str, *keys: str, kind: str = "Secret") -> None:
    """Put an object into the namespace."""
    config = KubernetesDeployerConfig(namespace="vision", image="x", bundle_store="s3://x")
    manifest = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "data": dict.fromkeys(keys, "eA==")}
    if not Namespace(config).ensure(manifest):
        Namespace(config).update(kind, name, lambda live: live | manifest)


def deployer(flavor: str = "visionops_kubernetes", **own: Any) -> Examined:
    own = {"namespace": "vision", "image": "127.0.0.1:1/serving:1", "bundle_store": "s3://vision/bundles"} | own
    return examined("model_deployer", flavor, "kubernetes", **own)


def test_a_namespace_that_has_all(cluster):
    keep("s3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    seen = well(check_cluster_deployer(deployer(bundle_store_secret="s3")))
    assert "Kubernetes 1.31, 29 rights, 1 objects" in seen
    for flavor in ("visionops_seldon", "visionops_kserve"):
        assert "rights" in well(check_cluster_deployer(deployer(flavor)))
    assert cluster.names() == {"secrets/s3"}


@pytest.mark.parametrize(
    ("flavor", "harm", "says"),
    [
        (
            "kubernetes",
            lambda c: c.namespaces.clear(),
            "namespace vision of .*: is not there; kubectl create namespace",
        ),
        (
            "kubernetes",
            lambda c: c.denied.update({"create deployments", "update deployments", "get pods/log"}),
            "lacks the right to create, update Deployment; get Pod/log; grant them: docs/how-to/kubernetes.md",
        ),
        ("kubernetes", lambda c: setattr(c, "version", ("1", "27+")), "Kubernetes 1.27, and .* needs 1.30; upgrade"),
        ("seldon", lambda c: c.kinds.remove("seldondeployments"), "not know the kind SeldonDeployment; install Seldon"),
        ("kserve", lambda c: c.kinds.remove("inferenceservices"), "not know the kind InferenceService; install KServe"),
        (
            "kubernetes",
            lambda c: c.faults.append(refusal(401, "Unauthorized")),
            r"does not know who asks \(Unauthorized\); log in to the cluster again",
        ),
    ],
)
def test_what_is_wrong_with_a_cluster_is_named(cluster, flavor, harm, says):

    harm(cluster)
    seen = trouble(check_cluster_deployer(deployer(f"visionops_{flavor}")))
    assert re.search(says, seen), seen


def test_secrets_that_the_stack_names_are_looked_for(cluster):
    seen = trouble(check_cluster_deployer(deployer(bundle_store_secret="s3")))
    assert "has no Secret s3, which the stack names; kubectl -n vision create secret generic s3 --from-" in seen
    keep("s3", "AWS_ACCESS_KEY_ID")
    seen = trouble(check_cluster_deployer(deployer(bundle_store_secret="s3")))
    assert "Secret s3: lacks AWS_SECRET_ACCESS_KEY; add" in seen
    assert objects_needed_by_steps(env_from=[{"secretRef": {"name": "steps"}}], image_pull_secrets=["pull"]) == [
        "namespace vision: has no Secret pull, which the stack names",
        "namespace vision: has no Secret steps, which the stack names",
    ]
    keep("steps")
    sources = [{"secretRef": {"name": "steps"}}, {"secretRef": {"name": "none", "optional": True}}]
    assert objects_needed_by_steps(env_from=sources, scratch={"claim": "images"}) == [
        "namespace vision: has no PersistentVolumeClaim images, which the stack names"
    ]


def objects_needed_by_steps(**step: Any) -> list[str]:
    """Those that are not there."""
    component = examined("orchestrator", "kubernetes", kubernetes_namespace="vision", service_account_name="")
    stack = component.stack.model_copy(update={"steps": {"train": StepSpec(**step)}})
    found = check_kubernetes_orchestrator(Examined(component.component, stack))
    return [finding.saw for finding in found if finding.state is State.BROKEN]


def test_an_orchestrator_needs_rights_of_its_own(cluster):
    own = {"kubernetes_namespace": "vision"}
    cluster.denied = {"create jobs", "create rolebindings"}
    seen = trouble(check_kubernetes_orchestrator(examined("orchestrator", "kubernetes", **own)))
    assert "lacks the right to create Job; create RoleBinding; grant them" in seen
    cluster.denied = {"create rolebindings"}
    component = examined("orchestrator", "kubernetes", service_account_name="runner", **own)
    assert "has no ServiceAccount runner, which the stack names; kubectl -n vision create serviceaccount runner" in (
        trouble(check_kubernetes_orchestrator(component))
    )
    keep("runner", kind="ServiceAccount")
    assert well(check_kubernetes_orchestrator(component))


def test_airflow_needs_a_place_for_dags_and_what_its_pods_are_given(cluster, tmp_path, s3, monkeypatch):
    own = {"dag_output_dir": str(tmp_path / "dags"), "operator_args": {"namespace": "vision"}}
    component = examined("orchestrator", "airflow", **own)
    components = component.stack.components | {ComponentType.MODEL_DEPLOYER: deployer().component}
    steps = {"default": StepSpec(env_from=({"secretRef": {"name": "s3"}},))}
    stack = component.stack.model_copy(update={"components": components, "steps": steps})
    seen = trouble(check_airflow_orchestrator(Examined(component.component, stack)))
    assert "has no Secret s3, which the stack names" in seen
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
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", nobody)  # not Amazon's own, in a test
    first = next(check_bundle_store(component))
    assert (first.state, first.mend.partition(" to")[0]) == (State.WARNING, "set AWS_ENDPOINT_URL")


def test_a_cluster_that_is_away_or_unknown_is_named(cluster, nobody):
    seen = trouble(check_cluster_deployer(deployer(kubernetes_context="other")))
    assert "other" in seen
    assert "set KUBECONFIG, kubernetes_context or incluster; it knows test" in seen
    kubeconfig = Path(os.environ["KUBECONFIG"])
    host = next(line for line in kubeconfig.read_text().splitlines() if "server:" in line).split()[-1]
    kubeconfig.write_text(kubeconfig.read_text().replace(host, nobody))
    seen = trouble(check_cluster_deployer(deployer()))
    assert (
        f"{nobody}: the cluster does not answer ([Errno 111] Connection refused); check the context and the network"
        in seen
    )


# Images


def registry(server: Answers | str) -> Examined:
    host = (server if isinstance(server, str) else server.url).removeprefix("http://")
    return examined("container_registry", "default", uri=f"{host}/team")


@pytest.fixture
def logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Answers], None]:
    """What `docker login` leaves behind."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))

    def log_in(server: Answers) -> None:
        login = base64.b64encode(b"me:mine").decode()
        auths = {server.url.removeprefix("http://"): {"auth": login}}
        (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))

    return log_in


BASIC = "Basic " + base64.b64encode(b"me:mine").decode()


def test_a_registry_takes_the_login_of_the_engines(logged_in, nobody):
    with answering({"/v2/": {}}, authorization=BASIC) as server:
        seen = trouble(check_container_registry(registry(server)))
        assert "asks for a login, and there is none; docker login 127.0.0.1:" in seen
        logged_in(server)
        assert "answers, to me" in well(check_container_registry(registry(server)))
        server.authorization = "Basic other"
        assert "refuses the login of me; docker login" in trouble(check_container_registry(registry(server)))
    with answering({"/v2/": {}}) as server:
        assert "without a login" in well(check_container_registry(registry(server)))
    with answering({}) as server:
        assert "is no registry of images (404); correct VISIONOPS" in trouble(
            check_container_registry(registry(server))
        )
    assert "does not answer (connection refused); start it" in trouble(check_container_registry(registry(nobody)))


def test_a_registry_may_want_a_token(logged_in):
    with answering({"/token": {"token": "t"}}, authorization=BASIC) as tokens:
        realm = f'Bearer realm="{tokens.url}/token",service="registry"'
        manifest = {"/v2/": {}, "/v2/team/serving/manifests/1": {}}
        with answering(manifest, authorization="Bearer t", realm=realm) as server:
            assert "asks for a login" in trouble(check_container_registry(registry(server)))
            logged_in(server)
            assert "answers, to me" in well(check_container_registry(registry(server)))
            image = f"{server.url.removeprefix('http://')}/team/serving:1"
            assert "is in its registry" in well(check_image(image))
            seen = trouble(check_image(image[:-1] + "2"))
            assert "has none of that name; make it (make images) and push it" in seen


def container(tmp_path: Path, engine: str = "auto") -> Examined:
    settings = {"engine": engine, "image": "serving:1"}
    return examined("model_deployer", "visionops_container", folder=str(tmp_path), container=settings)


def engine(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_what_is_wrong_with_container_engines_is_named(tmp_path, monkeypatch):
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    assert "neither podman nor docker is on the path; install one: apt" in trouble(
        check_container_deployer(container(tmp_path))
    )
    assert "docker and podman: not on the path; install one" in trouble(
        check_image_builder(examined("image_builder", "local"))
    )
    engine(path, "docker", "echo 'Cannot connect to the Docker daemon at unix:///x.' >&2; exit 1")
    assert "docker is on the path" not in trouble(check_container_deployer(container(tmp_path)))
    for check, component in (
        (check_container_deployer, container(tmp_path)),
        (check_image_builder, examined("image_builder", "local")),
    ):
        assert "Cannot connect to the Docker daemon at unix:///x.; start its daemon: systemctl" in trouble(
            check(component)
        )
    engine(path, "podman", 'case $1 in info) echo 5.0;; *) echo "Error: serving: image not known" >&2; exit 125;; esac')
    seen = trouble(check_container_deployer(container(tmp_path, "podman")))
    assert "image serving:1: podman has none of that name; make it: make images" in seen
    assert "podman answers" in well(check_image_builder(examined("image_builder", "local")))
    engine(path, "podman", "echo sha256:abcdef")
    assert "has serving:1 (abcdef)" in well(check_container_deployer(container(tmp_path, "podman")))


# This machine


def test_a_folder_is_written_and_left_as_it_was(tmp_path):
    assert "writable" in well(check_folder(tmp_path / "a" / "b", "x"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    assert "file cannot be written" in trouble(check_folder(tmp_path / "file" / "b", "x"))


def test_a_disk_that_is_read_only_or_full_is_named(tmp_path):
    with mounted(tmp_path / "ro", "ro") as folder:
        seen = trouble(check_folder(folder / "serving", "endpoints"))
        assert "cannot be written (Read-only file system); give yourself the right to, or set VISIONOPS_HOME" in seen
    with mounted(tmp_path / "small", "size=64k") as folder:
        seen = trouble(check_folder(folder, "endpoints"))
        assert seen.startswith(f"broken: {folder}: 0.0 GiB free; free the disk, or set VISIONOPS_HOME")
    with mounted(tmp_path / "larger", "size=1g") as folder:
        assert trouble(check_folder(folder, "x")).startswith(f"warning: {folder}: 1.0 GiB free")


def test_steps_elsewhere_cannot_use_a_folder_of_this_machine(tmp_path):
    seen = trouble(check_artifact_folder(examined("artifact_store", "local", "kubernetes", path=str(tmp_path))))
    assert "steps run elsewhere; give the stack an s3 artifact store" in seen


# Alerts


def test_what_tells_people_is_asked(nobody):
    def alerter(**own: str) -> Examined:
        return examined("alerter", "visionops_alertmanager", **own)

    assert trouble(check_alertmanager(alerter())).startswith("warning: no Alertmanager: nobody is told")
    assert list(check_pushgateway(alerter())) == []
    with answering({"/api/v2/status": {}, "/-/ready": {}}, authorization=BASIC) as server:
        seen = trouble(check_alertmanager(alerter(url=server.url)))
        assert "refuses the login (401); set the alerter's username" in seen
        assert "ready" in well(check_alertmanager(alerter(url=server.url, username="me", password="mine")))
        server.authorization = ""
        assert "ready" in well(check_pushgateway(alerter(pushgateway_url=server.url)))
        server.answers["/api/v2/status"] = 503
        assert "is not ready (503)" in trouble(check_alertmanager(alerter(url=server.url)))
    gone = trouble(check_pushgateway(alerter(pushgateway_url=nobody)))
    assert f"Pushgateway {nobody}: does not answer (connection refused); start it, or set VISIONOPS_PUSH" in gone
    assert f"Alertmanager {nobody}: does not answer" in trouble(check_alertmanager(alerter(url=nobody)))


# ZenML


@contextmanager
def zenml_at(url: str, folder: Path) -> Iterator[None]:
    """A client that is told to use the server at ``url``."""
    from zenml.config.global_config import GlobalConfiguration
    from zenml.login.credentials_store import CredentialsStore

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZENML_CONFIG_PATH", str(folder))
        patch.setenv("ZENML_STORE_URL", url)
        patch.setenv("ZENML_STORE_API_KEY", "expired")
        before = GlobalConfiguration.get_instance()
        GlobalConfiguration._reset_instance()
        CredentialsStore.reset_instance()
        try:
            yield
        finally:
            GlobalConfiguration._reset_instance(before)
            CredentialsStore.reset_instance()


def zenml_answers(version_: str) -> dict[str, Any]:
    info = {"id": "00000000-0000-0000-0000-000000000001", "version": version_, "auth_scheme": "OAUTH2_PASSWORD_BEARER"}
    return {"/health": "OK", "/api/v1/info": info}


def test_a_zenml_server_that_is_away_of_another_version_or_does_not_know_us_is_named(nobody, tmp_path):
    ours = version("zenml")
    with zenml_at(nobody, tmp_path / "away"):
        seen = trouble(check_zenml())
        assert f"ZenML server {nobody}: does not answer" in seen
        assert "`zenml logout`" in seen
        with pytest.raises(StackError, match=r"or name the stack: python -m stacks\.doctor NAME"):
            diagnose()
        with pytest.raises(StackError, match="does not answer"):
            diagnose("of_zenml_only")
    with answering(zenml_answers(ours), authorization="nobody has it") as server, zenml_at(server.url, tmp_path / "a"):
        assert f"{server.url}: the login has expired, or there is none; zenml login" in trouble(check_zenml())
    with answering(zenml_answers("0.50.1"), authorization="no") as server, zenml_at(server.url, tmp_path / "b"):
        other = next(check_zenml())
    assert (other.state, other.saw) == (State.BROKEN, f"{server.url}: ZenML 0.50.1, and here is {ours}")
    assert other.mend == f"run ZenML {ours} there, or install 0.50.1 here"


def test_steps_elsewhere_need_a_zenml_server(zenml_home, tmp_path):
    assert "without a server" in well(check_zenml())
    assert "steps run elsewhere, and ZenML is a file of this machine; zenml login https" in trouble(
        check_server_for_pods()
    )
    with zenml_at("http://localhost:8237", tmp_path):
        assert "http://localhost:8237: in a pod that is the pod itself; give" in trouble(check_server_for_pods())
    with zenml_at("https://zenml.example.com", tmp_path):
        assert not list(check_server_for_pods())


def test_secrets_of_zenml_are_filled_in_or_named(zenml_home):
    from zenml.client import Client

    component = store("http://x", key="{{s3.key}}").component
    with pytest.raises(StackError, match=r"has no secret s3, which the stack names; zenml secret create s3 --"):
        with_secrets(component)
    secret = Client().create_secret("s3", {"other": "x"})
    with pytest.raises(StackError, match="secret s3: lacks key, which the stack names; zenml secret update s3 --key"):
        with_secrets(component)
    Client().update_secret(secret.id, add_or_update_values={"key": "me"})
    assert with_secrets(component).configuration["key"] == "me"
    Client().delete_secret(str(secret.id))


# All of it


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    """An Alertmanager that the stacks name."""
    with answering({"/api/v2/status": {}}) as server:
        monkeypatch.setenv("VISIONOPS_ALERTMANAGER", server.url)
        yield server


def test_local_before_and_after_it_is_applied(zenml_home, told, capsys, monkeypatch):
    assert main(["local"]) == 0
    before = capsys.readouterr().out.splitlines()
    assert "warning stack file: not in ZenML yet; python -m stacks.apply local" in before
    assert before[-1].startswith("stack local: 1 warning, 7 ok, in ")
    apply("local")
    assert main(["local"]) == 0
    assert "ok      stack file: ZenML has what the file says" in capsys.readouterr().out
    monkeypatch.setenv("VISIONOPS_PUSHGATEWAY", told.url)
    told.answers["/-/ready"] = {}
    assert main([]) == 2
    out = capsys.readouterr().out
    assert "broken  stack file: ZenML has another: apply would update alerter local (pushgateway_url); python -m" in out


def test_a_stack_without_a_file_is_known_by_zenml(zenml_home, capsys):
    seen = {row.what: row for row in diagnose("default").rows}
    assert seen["artifact store"].state is State.OK
    assert main(["nowhere"]) == 2
    assert "error: stack 'nowhere': not known; choose one of" in capsys.readouterr().err


def test_all_variables_that_lack_are_named_and_hide_nothing(zenml_home, told, monkeypatch):
    for variable in CLUSTER:
        monkeypatch.delenv(variable, raising=False)
    diagnosis = diagnose("kubernetes")
    (file,) = [row for row in diagnosis.rows if row.what == "stack file"]
    assert file.findings[0].saw == f"{len(CLUSTER)} variables are not set"
    assert set(file.findings[0].mend.replace(",", "").split()) >= set(CLUSTER)
    deployer_row = next(row for row in diagnosis.rows if row.what == "model deployer")
    assert "for want of VISIONOPS_KUBERNETES_CONTEXT, " in deployer_row.findings[0].saw
    assert rows(diagnosis, State.OK) <= {"zenml", "image builder"}
    assert next(row for row in diagnosis.rows if row.what == "alerter").findings[-1].saw.endswith("ready")


@pytest.fixture
def all_running(
    cluster: Cluster, s3: str, told: Answers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Answers]:
    """All that our stack files name; the server that is MLflow and the registry of images."""
    answers = mlflow_answers() | {"/v2/": {}, "/v2/serving/manifests/1": {}, "/v2/pipeline/manifests/1": {}}
    with answering(answers) as server:
        host = server.url.removeprefix("http://")
        variables = CLUSTER | {
            "VISIONOPS_S3_ENDPOINT": s3,
            "AWS_ENDPOINT_URL": s3,
            "VISIONOPS_MLFLOW": server.url,
            "VISIONOPS_REGISTRY": host,
            "VISIONOPS_SERVING_IMAGE": f"{host}/serving:1",
            "VISIONOPS_PIPELINE_IMAGE": f"{host}/pipeline:1",
            "VISIONOPS_AIRFLOW_DAGS": str(tmp_path),
            "PATH": str(tmp_path),
        }
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
        engine(tmp_path, "docker", "echo 28.0")
        keep("s3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        yield server


@pytest.mark.usefixtures("zenml_home")
@pytest.mark.parametrize("stack", ["staging", "kubernetes", "seldon", "airflow"])
def test_on_each_stack_what_is_broken_hides_nothing_else(all_running, cluster, monkeypatch, stack):
    # ZenML has no server here, which steps of a cluster need.
    always = set() if stack == "staging" else {"orchestrator"}
    all_running.answers["/version"] = "2.0.0"
    cluster.denied = {"create jobs"}
    monkeypatch.setenv("VISIONOPS_S3_BUCKET", "s3://none")
    seen = {row.what: row for row in diagnose(stack).rows}
    bundles = set() if stack == "staging" else {"model deployer"}
    broken = {what for what, row in seen.items() if row.state is State.BROKEN}
    assert broken == always | bundles | {"experiment tracker", "artifact store"}
    assert "there is no such bucket" in str(seen["artifact store"].findings)
    assert ("lacks the right to create Job" in str(seen["orchestrator"].findings)) == (
        stack in {"kubernetes", "seldon"}
    )


def test_a_library_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(diagnosis_module._LIBRARIES, "s3", (("boto3", "not_there"), "s3"))
    component = store("http://x")
    (look,) = diagnosis_module._looks(ComponentType.ARTIFACT_STORE, component.component, component.stack, [])
    assert trouble(look()) == "broken: not_there: not installed; pip install 'visionops[s3]'"


def test_a_check_that_fails_or_hangs_hides_no_other(monkeypatch):
    hung = threading.Event()

    def fail() -> Iterator[Finding]:
        yield Finding(State.OK, "http://me:secret@first")
        raise KeyError("surprise")

    def hang() -> Iterator[Finding]:
        hung.wait()
        yield Finding(State.OK, "late")

    monkeypatch.setattr(diagnosis_module, "_PATIENCE_S", 1.0)
    failed, late = diagnosis_module._all_at_once([("a", "", [fail, fail]), ("b", "", [hang])])
    hung.set()
    assert [finding.saw for finding in failed.findings] == [
        "http://…@first",
        "cannot be looked at (KeyError: 'surprise')",
    ]
    assert late.state is State.BROKEN
    assert "no answer in 1 s" in late.findings[0].saw


@pytest.mark.parametrize("width", [80, 120])
def test_a_table_fits_the_terminal(monkeypatch, width, tmp_path):
    out = io.StringIO()
    terminal = Console(file=out, width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr(report_module, "Console", lambda **_: terminal)
    long = Finding(State.BROKEN, f"s3://vision at https://{'a' * 100}.example.com: is away", "start it")
    row = diagnosis_module.Row("experiment tracker", "visionops_alertmanager", (long,))
    report_module.print_diagnosis(Diagnosis("kubernetes", (row,), 1.5), out)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert any(line.rstrip().endswith("→ start it") for line in lines)
    assert lines[-1] == "stack kubernetes: 1 broken, in 1.5 s"


def test_every_flavor_of_our_stacks_has_a_check():
    from stacks.spec import known_stacks, unset_variables

    for name in known_stacks():
        spec = load_stack(name, os.environ | dict.fromkeys(unset_variables(name), "x"))
        for kind, component in spec.components.items():
            known = {(kind, component.flavor), (kind, "")} & set(diagnosis_module._CHECKS)
            assert known, f"{name}: {kind} {component.flavor}"
