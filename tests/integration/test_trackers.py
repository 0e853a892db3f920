"""Test the same training on stacks that differ only in their experiment tracker, with `zenml stack set` between.

Six trainings and three rollbacks take minutes: make trackers. The contract test, which reads back the output of each
adapter, is part of every run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stacks.tracking import ADAPTERS
from tests.integration.conftest import ROOT, TINY, Machine, figures

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not os.environ.get("VISIONOPS_WHOLE"), reason="it takes minutes: make trackers"),
]

_STACKS = """
from zenml.client import Client
from zenml.enums import StackComponentType
client, kind = Client(), StackComponentType.EXPERIMENT_TRACKER
components = {kind: found[0].id for kind, found in client.get_stack("local").components.items()}
offline = {"api_key": "offline", "init_kwargs": {"mode": "offline", "dir": FOLDER + "/wandb"}}
for flavor, settings in {"wandb": offline, "trackio": {}}.items():
    made = client.create_stack_component(flavor, flavor, kind, {"project_name": "visionops"} | settings)
    client.create_stack(flavor, components | {kind: made.id})
"""
_READ = """
import dataclasses, json
from pathlib import Path
from tests.helpers.trackers import mlflow_store, trackio_store, wandb_store
store = {
    "mlflow": lambda: mlflow_store(f"sqlite:///{FOLDER}/mlflow/mlflow.db", NAME),
    "wandb": lambda: wandb_store(Path(FOLDER) / "wandb"),
    "trackio": lambda: trackio_store("visionops"),
}[FLAVOR]()
print(json.dumps([dataclasses.asdict(store.read(run)) for run in RUNS]))
"""


def python(machine: Machine, code: str, **values: Any) -> str:
    """Run a program with the machine's ZenML and return its output."""
    home = str(machine.folder / "home")
    known = "".join(f"{name} = {value!r}\n" for name, value in {"FOLDER": home, **values}.items())
    environment = {**machine.env, "TRACKIO_DIR": f"{home}/trackio"}
    command = [sys.executable, "-c", known + code]
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def stacks(machine: Machine) -> dict[str, str]:
    """Return a stack for each flavor, otherwise equal."""
    command = [sys.executable, "-m", "stacks.apply", "local"]
    subprocess.run(command, cwd=ROOT, env=machine.env, check=True, capture_output=True)
    python(machine, _STACKS)
    return {"mlflow": "local", "wandb": "wandb", "trackio": "trackio"}


@pytest.fixture(scope="module")
def seen(machine: Machine, stacks: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return the results of two trainings and a rollback with each tracker, and the runs in its store."""
    assert stacks.keys() == ADAPTERS.keys()
    return {flavor: whole_way(machine, flavor, stack) for flavor, stack in stacks.items()}


def whole_way(machine: Machine, flavor: str, stack: str) -> dict[str, Any]:
    zenml = [str(Path(sys.executable).with_name("zenml")), "stack", "set", stack]
    subprocess.run(zenml, cwd=ROOT, env=machine.env, check=True, capture_output=True)
    name = f"tracked-{flavor}"  # otherwise ZenML would reuse the previous stack's training from its cache
    first = machine.train(f"name={name}")
    second = machine.train(f"name={name}", "training.seed=1", "gate.margin=0", "gate.confidence=0")
    sets = [f"--set={setting}" for setting in [*TINY, f"name={name}"]]
    back = machine.run("--pipeline", "deployment", "--rollback", *sets)
    assert back.returncode == 0, back.stderr[-3000:]
    run = first["run"]
    runs = [run] if flavor == "mlflow" else [f"{run}_train", f"{run}_evaluate"]
    found = json.loads(python(machine, _READ, FLAVOR=flavor, NAME=name, RUNS=runs).splitlines()[-1])
    return {"first": first, "second": second, "runs": found, "aliases": aliases(machine, name)}


def aliases(machine: Machine, name: str) -> dict[str, str]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{machine.folder / 'home' / 'mlflow' / 'mlflow.db'}")
    return {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()}


def measured(summary: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in figures(summary).items() if name != "model"}


@pytest.mark.parametrize("flavor", ["wandb", "trackio"])
def test_the_metrics_are_those_of_the_stack_with_mlflow(seen, flavor):
    for run in ("first", "second"):
        assert measured(seen[flavor][run]) == measured(seen["mlflow"][run])


@pytest.mark.parametrize("flavor", sorted(ADAPTERS))
def test_gate_and_rollback_work_beside_each_tracker(seen, flavor):
    found = seen[flavor]
    assert found["first"]["stack"] == {"mlflow": "local"}.get(flavor, flavor)
    assert found["first"]["gate"]["promote"]
    assert found["first"]["model"]["alias"] == "champion"
    assert found["second"]["gate"]["promote"], found["second"]["gate"]
    assert found["second"]["model"]["version"] == "2"
    assert found["aliases"] == {"champion": "1"}, "rolled back to the first"


@pytest.mark.parametrize("flavor", ["wandb", "trackio"])
def test_each_tracker_has_what_mlflow_has_of_the_run(seen, flavor):
    (expected,) = seen["mlflow"]["runs"]
    trained, evaluated = seen[flavor]["runs"]
    # MLflow adds a parameter for a registered model.
    assert trained["params"] == without(expected["params"], {"engine"})
    epochs = [{step: without(row, {"seconds"}) for step, row in run["epochs"].items()} for run in (trained, expected)]
    assert epochs[0] == epochs[1]
    assert sorted(epochs[0]) == ["1", "2"]
    latency = {name for name in expected["final"] if "latency" in name}
    assert without(evaluated["final"], latency) == without(expected["final"], latency)
    files = {path for path in expected["files"] if path.startswith(("training/", "evaluation/"))}
    assert {"training/label_audit.png", "training/confusion_matrix.png", "evaluation/report.html"} <= files
    assert set(trained["files"]) | set(evaluated["files"]) == files


def without(found: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name not in names}
