"""Test a script that trains, monitors and rolls back through `launch` alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.integration.conftest import TINY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not os.environ.get("VISIONOPS_WHOLE"), reason="takes a minute: make pipelines"),
]

SCRIPT = """
import json, sys
from launch import DeployRequest, MonitorRequest, TrainRequest, launch
from visionops.errors import ConfigError

settings = sys.argv[1:]
first = launch(TrainRequest(settings=settings))
second = launch(TrainRequest(settings=[*settings, "training.seed=1"]))
seen = launch(MonitorRequest(settings=settings, decide_only=True))
back = launch(DeployRequest(settings=settings, rollback=True))
try:
    launch(TrainRequest(settings=["training.epoch=1"]))
except ConfigError as error:
    refused = str(error)
results = {
    "registered": [first.model.version, second.model.version],
    "promoted": [first.gate.promote, second.gate.promote],
    "images": sum(first.splits[split] for split in ("train", "val", "test")),
    "map50": first.evaluation.metrics["map50"],
    "decided": seen.retraining.action.value,
    "drifted": seen.drift.drifted,
    "served": [first.endpoint.version, second.endpoint.version, back.endpoint.version],
    "refused": refused,
}
print(json.dumps(results))
"""


def test_a_script_trains_monitors_and_rolls_back_with_typed_results(machine):
    script = machine.folder / "front_end.py"
    script.write_text(SCRIPT)
    done = machine.run(*TINY, "name=scripted", "gate.margin=0", "gate.confidence=0", program=script)
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(done.stdout.splitlines()[-1])
    assert results["registered"] == ["1", "2"]
    assert results["promoted"] == [True, True]
    assert results["images"] == 48
    assert 0 <= results["map50"] <= 1
    assert results["decided"] == "nothing"
    assert not results["drifted"]
    assert results["served"] == ["1", "2", "1"]
    assert results["refused"].startswith("--set training.epoch=1: unknown key 'training.epoch'")


def test_programs_that_begin_at_once_on_a_new_machine_make_its_databases_once(tmp_path):
    home = {"VISIONOPS_HOME": "home", "ZENML_CONFIG_PATH": "zenml", "ZENML_LOCAL_STORES_PATH": "stores"}
    environment = {**os.environ, **{name: str(tmp_path / folder) for name, folder in home.items()}}
    command = [sys.executable, "-m", "launch.cli", "rollback", "--config"]
    configs = ["casting.yaml", "faces.yaml", "sample.yaml", "steel.yaml"]
    begun = [
        subprocess.Popen(
            [*command, str(ROOT / "configs" / name)], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
        )
        for name in configs
    ]
    said = [process.communicate(timeout=600)[1].splitlines()[-1] for process in begun]
    assert said == [f"error: {name[:-5]}: no champion; run --pipeline training first" for name in configs]
