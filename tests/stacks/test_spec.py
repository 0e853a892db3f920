"""Test that stack files are strict and filled from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from stacks.spec import ComponentType, known_stacks, load_stack, read_stack, unset_variables
from stacks.steps import known_steps
from visionops.errors import StackError

MINIMAL = "name: x\ncomponents:\n  orchestrator: {name: x, flavor: local}\n  artifact_store: {name: x, flavor: local}\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "x.yaml"
    path.write_text(text)
    return path


def test_every_stack_file_can_be_read(monkeypatch, tmp_path):
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path))
    assert "local" in known_stacks()
    spec = load_stack("local")
    assert spec.components[ComponentType.ARTIFACT_STORE].configuration == {"path": f"{tmp_path}/artifacts"}
    tracker = spec.components[ComponentType.EXPERIMENT_TRACKER].configuration
    assert tracker == {"tracking_uri": f"sqlite:///{tmp_path}/mlflow/mlflow.db"}


def test_home_has_a_default(monkeypatch):
    monkeypatch.delenv("VISIONOPS_HOME", raising=False)
    path = load_stack("local", {}).components[ComponentType.ARTIFACT_STORE].configuration["path"]
    assert path.endswith("/.visionops/artifacts")


CLUSTER = {
    "VISIONOPS_KUBERNETES_CONTEXT": "test",
    "VISIONOPS_KUBERNETES_NAMESPACE": "vision",
    "VISIONOPS_SERVING_IMAGE": "registry/serving:1",
    "VISIONOPS_PIPELINE_IMAGE": "registry/pipeline:1",
    "VISIONOPS_REGISTRY": "registry",
    "VISIONOPS_S3_BUCKET": "s3://vision",
    "VISIONOPS_S3_SECRET": "s3",
    "VISIONOPS_MLFLOW": "http://mlflow:5000",
}


@pytest.mark.parametrize("missing", CLUSTER)
def test_a_stack_on_a_cluster_names_the_variable_that_it_lacks(missing):
    known = {name: value for name, value in CLUSTER.items() if name != missing}
    with pytest.raises(StackError, match=f"set the environment variable {missing}"):
        load_stack("kubernetes", known)


def test_all_unset_variables_are_named_at_once():
    known = {"VISIONOPS_REGISTRY": "registry"}
    lacking = [name for name in CLUSTER if name not in known]
    assert set(unset_variables("kubernetes", known)) == set(lacking)
    with pytest.raises(StackError, match="7 variables are not set; set in the environment: ") as caught:
        load_stack("kubernetes", known)
    assert all(name in str(caught.value) for name in lacking)
    assert "VISIONOPS_REGISTRY" not in str(caught.value)
    assert unset_variables("local", {}) == []


def test_variables_are_filled_at_any_depth(tmp_path):
    text = MINIMAL.replace("flavor: local}", "flavor: local, configuration: {a: ['${ONE}-${TWO}', 3]}}", 1)
    spec = read_stack(write(tmp_path, text), {"ONE": "1", "TWO": "2"})
    assert spec.components[ComponentType.ORCHESTRATOR].configuration == {"a": ["1-2", 3]}


@pytest.mark.parametrize(
    ("variables", "expected"), [({}, "http://x:1"), ({"URL": ""}, "http://x:1"), ({"URL": "y"}, "y")]
)
def test_a_variable_may_have_a_default(tmp_path, variables, expected):
    text = MINIMAL.replace("flavor: local}", "flavor: local, configuration: {a: '${URL:-http://x:1}', b: '${B:-}'}}", 1)
    spec = read_stack(write(tmp_path, text), variables)
    assert spec.components[ComponentType.ORCHESTRATOR].configuration == {"a": expected, "b": ""}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (MINIMAL + "stak: 1\n", "stak: Extra inputs"),
        (MINIMAL.replace("orchestrator", "orchestra"), r"components.orchestra"),
        (MINIMAL.replace("  artifact_store: {name: x, flavor: local}\n", ""), "missing artifact_store"),
        (MINIMAL.replace("name: x,", "name: '${NOBODY_SET_THIS}',", 1), "set the environment variable NOBODY_SET_THIS"),
        (
            MINIMAL.replace("name: x,", "name: 'a b',", 1),
            "orchestrator.name: expected lower-case letters, digits, dashes",
        ),
        (MINIMAL + "steps: {trian: {cpu: 1}}\n", r"x.yaml: steps: trian: unknown step; did you mean 'train'\?"),
        (MINIMAL + "steps: {train: {cpus: 1}}\n", "steps.train.cpus: Extra inputs"),
        (MINIMAL + "steps: {train: {memory: 4G}}\n", "steps.train.memory: expected a number with Mi, Gi or Ti"),
        (
            MINIMAL + "steps: {train: {step_operator: true}}\n",
            "steps.train.step_operator: the stack has no component step_operator",
        ),
        (MINIMAL + "steps: {train: {env_from: [{}]}}\n", "env_from.0: set either secretRef or configMapRef"),
        (
            MINIMAL + "steps: {train: {scratch: {claim: a, storage_class: b}}}\n",
            "scratch: set either claim or storage_class, not both",
        ),
        ("a: [", "not valid YAML"),
        ("- 1\n", "expected a mapping"),
        (MINIMAL + "flavors: [{type: model_deployer, source: nodots}]\n", "flavors.0.source"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path, text, says):
    path = write(tmp_path, text)
    with pytest.raises(StackError, match=says) as caught:
        read_stack(path, {})
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_an_unknown_stack_names_the_known_ones():
    with pytest.raises(StackError, match=r"'nowhere': unknown; choose one of .*local"):
        load_stack("nowhere")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StackError, match="cannot be read"):
        read_stack(tmp_path / "none.yaml", {})


def test_a_file_takes_what_the_one_says_that_it_extends():
    kubernetes = load_stack("kubernetes", CLUSTER)
    for name, other in (("seldon", ComponentType.MODEL_DEPLOYER), ("airflow", ComponentType.ORCHESTRATOR)):
        spec = load_stack(name, CLUSTER | {"VISIONOPS_AIRFLOW_DAGS": "dags"})
        assert (spec.name, spec.steps) == (name, kubernetes.steps)
        assert {kind for kind, c in spec.components.items() if c != kubernetes.components[kind]} == {other}
        assert set(kubernetes.flavors) <= set(spec.flavors)


def test_the_stack_of_a_clusters_own_runs_differs_only_in_how_it_reaches_the_cluster():
    variables = CLUSTER | {"VISIONOPS_JOB_TTL": "60", "VISIONOPS_SERVING_CPU": "0.5"}
    outside, inside = load_stack("kubernetes", variables), load_stack("incluster", variables)
    changed = {ComponentType.ORCHESTRATOR, ComponentType.MODEL_DEPLOYER}
    assert {kind for kind, one in inside.components.items() if one != outside.components[kind]} == changed
    for kind in changed:
        of_each = [dict(spec.components[kind].configuration) for spec in (outside, inside)]
        ways = [{key: own.pop(key, None) for key in ("incluster", "kubernetes_context", "local")} for own in of_each]
        assert of_each[0] == of_each[1]
        assert ways[1] == {"incluster": True, "kubernetes_context": None, "local": None}
    assert inside.steps == outside.steps


@pytest.mark.parametrize(
    ("base", "says"),
    [("nosuch", "no stack file 'nosuch' in the same folder"), ("y", "cannot extend 'y', which extends")],
)
def test_what_cannot_be_extended(tmp_path, base, says):
    (tmp_path / "y.yaml").write_text("extends: x\n")
    with pytest.raises(StackError, match=rf"x\.yaml: extends: {says}"):
        read_stack(write(tmp_path, f"name: x\nextends: {base}\n"), {})


@pytest.mark.parametrize(("said", "expected"), [("true", True), ("false", False), ("", False), ("x", "x")])
def test_a_variable_may_be_a_switch(tmp_path, said, expected):
    text = MINIMAL.replace("flavor: local}", "flavor: local, configuration: {a: '${SWITCH:-false}', b: 'true'}}", 1)
    configuration = (
        read_stack(write(tmp_path, text), {"SWITCH": said}).components[ComponentType.ORCHESTRATOR].configuration
    )
    assert configuration == {"a": expected, "b": "true"}


def test_a_step_has_its_own_words_on_top_of_those_of_all(tmp_path):
    text = (
        MINIMAL
        + """
steps:
  default: {image: pipeline:1, cpu: 1, memory: 4Gi, environment: {A: "1", B: "1"}, tolerations: [{key: slow}]}
  train: {image: "${GPU_IMAGE:-}", memory: 16Gi, gpu: "${GPUS:-}", environment: {B: "2"}, tolerations: [{key: gpu}]}
"""
    )
    spec = read_stack(write(tmp_path, text), {})
    other, train = spec.step("evaluate"), spec.step("train")
    assert (other.memory, other.image, other.environment) == ("4Gi", "pipeline:1", {"A": "1", "B": "1"})
    assert (train.image, train.cpu, train.memory, train.gpu) == ("pipeline:1", 1, "16Gi", None)
    assert train.environment == {"A": "1", "B": "2"}
    assert [toleration.key for toleration in train.tolerations] == ["gpu"]
    gpu = read_stack(write(tmp_path, text), {"GPU_IMAGE": "gpu:1", "GPUS": "2"}).step("train")
    assert (gpu.image, gpu.gpu) == ("gpu:1", 2)


@pytest.mark.filterwarnings("ignore")  # ZenML, SQLAlchemy and MLflow warn of their own code
def test_the_steps_there_are_are_those_of_the_pipelines(zenml_home):
    import importlib
    import pkgutil

    from zenml.steps import BaseStep

    import steps

    modules = [importlib.import_module(f"steps.{module.name}") for module in pkgutil.iter_modules(steps.__path__)]
    assert known_steps() == {o.name for m in modules for o in vars(m).values() if isinstance(o, BaseStep)}
