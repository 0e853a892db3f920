"""Test the diagnosis of a whole stack."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import stacks.doctor.diagnosis as diagnosis_module
from stacks.apply import apply
from stacks.doctor.__main__ import main
from stacks.doctor.diagnosis import Diagnosis, diagnose
from stacks.doctor.findings import CheckResult, State
from stacks.spec import ComponentType, load_stack
from tests.helpers.cluster import Cluster
from tests.helpers.doctor import engine, keep, mlflow_answers, store, trouble
from tests.helpers.web import Answers, answering
from tests.stacks.test_spec import CLUSTER

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML, SQLAlchemy and MLflow warn of their own code


def rows(diagnosis: Diagnosis, state: State) -> set[str]:
    return {row.what for row in diagnosis.rows if row.state is state}


@pytest.fixture
def alertmanager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    """Return the Alertmanager that the stacks name."""
    with answering({"/api/v2/status": {}}) as server:
        monkeypatch.setenv("VISIONOPS_ALERTMANAGER", server.url)
        yield server


def test_local_before_and_after_it_is_applied(zenml_home, alertmanager, capsys, monkeypatch):
    assert main(["local"]) == 0
    before = capsys.readouterr().out.splitlines()
    assert "warning stack file: not in ZenML yet; visionops stack apply local" in before
    assert before[-1].startswith("stack local: 1 warning, 9 ok, in ")
    apply("local")
    assert main(["local"]) == 0
    assert "ok      stack file: ZenML matches the file" in capsys.readouterr().out
    monkeypatch.setenv("VISIONOPS_PUSHGATEWAY", alertmanager.url)
    alertmanager.answers["/-/ready"] = {}
    assert main([]) == 2
    out = capsys.readouterr().out
    assert (
        "broken  stack file: ZenML differs from the file: apply would update alerter local (pushgateway_url); " in out
    )


def test_a_stack_without_a_file_is_known_by_zenml(zenml_home, capsys):
    seen = {row.what: row for row in diagnose("default").rows}
    assert seen["artifact store"].state is State.OK
    assert main(["nowhere"]) == 2
    assert "error: stack 'nowhere': unknown; choose one of" in capsys.readouterr().err


def test_all_unset_variables_are_named_and_hide_nothing(zenml_home, alertmanager, monkeypatch):
    for variable in CLUSTER:
        monkeypatch.delenv(variable, raising=False)
    diagnosis = diagnose("kubernetes")
    (file,) = [row for row in diagnosis.rows if row.what == "stack file"]
    assert file.findings[0].observed == f"{len(CLUSTER)} variables are not set"
    assert set(file.findings[0].fix.replace(",", "").split()) >= set(CLUSTER)
    deployer_row = next(row for row in diagnosis.rows if row.what == "model deployer")
    assert "not checked: VISIONOPS_KUBERNETES_CONTEXT, " in deployer_row.findings[0].observed
    assert rows(diagnosis, State.OK) <= {"zenml", "image builder"}
    assert next(row for row in diagnosis.rows if row.what == "alerter").findings[-1].observed.endswith("ready")


@pytest.fixture
def all_running(
    cluster: Cluster, s3: str, alertmanager: Answers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Answers]:
    """Start all services that our stack files name; return the one for MLflow and the image registry."""
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
    # Steps in a cluster need a ZenML server, which this test does not run.
    always = set() if stack == "staging" else {"orchestrator"}
    all_running.answers["/version"] = "2.0.0"
    cluster.denied = {"create jobs"}
    monkeypatch.setenv("VISIONOPS_S3_BUCKET", "s3://none")
    seen = {row.what: row for row in diagnose(stack).rows}
    bundles = set() if stack == "staging" else {"model deployer"}
    broken = {what for what, row in seen.items() if row.state is State.BROKEN}
    assert broken == always | bundles | {"experiment tracker", "artifact store"}
    assert "no such bucket" in str(seen["artifact store"].findings)
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

    def fail() -> Iterator[CheckResult]:
        yield CheckResult(State.OK, "http://me:secret@first")
        raise KeyError("surprise")

    def hang() -> Iterator[CheckResult]:
        hung.wait()
        yield CheckResult(State.OK, "late")

    monkeypatch.setattr(diagnosis_module, "_PATIENCE_S", 1.0)
    failed, late = diagnosis_module._all_at_once([("a", "", [fail, fail]), ("b", "", [hang])])
    hung.set()
    assert [finding.observed for finding in failed.findings] == [
        "http://…@first",
        "check failed (KeyError: 'surprise')",
    ]
    assert late.state is State.BROKEN
    assert "no answer in 1 s" in late.findings[0].observed


def test_every_flavor_of_our_stacks_has_a_check():
    from stacks.spec import known_stacks, unset_variables

    for name in known_stacks():
        spec = load_stack(name, os.environ | dict.fromkeys(unset_variables(name), "x"))
        for kind, component in spec.components.items():
            known = {(kind, component.flavor), (kind, "")} & set(diagnosis_module._CHECKS)
            assert known, f"{name}: {kind} {component.flavor}"
