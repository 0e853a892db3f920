"""The JSON Schema of a use case takes what the loader takes, and refuses what an editor should mark."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

import launch.cli
from tests.conftest import ROOT
from visionops.config import load_config
from visionops.config.json_schema import use_case_schema
from visionops.errors import ConfigError

USE_CASES = sorted((ROOT / "configs").glob("*.yaml"))
COMMITTED = ROOT / "docs" / "reference" / "use-case.schema.json"
DATA = "name: casting\ndata: {source: {kind: folder, path: data}}\n"
REFUSED = {
    "a mistyped key": DATA + "serving: {prot: 8000}",
    "a mistyped key of the task's training": DATA + "training: {epoch: 5}",
    "a setting of another task": DATA + "task: classification\ntraining: {final_learning_rate: 0.1}",
    "a metric of another task": DATA + "task: classification\ngate: {metric: map50}",
    "an unknown task": DATA + "task: detecting",
    "an unknown kind of source": "name: casting\ndata: {source: {kind: ftp, path: data}}",
    "a number out of range": DATA + "serving: {confidence: 1.5}",
    "no data": "name: casting",
}
ACCEPTED = {
    "the smallest": DATA,
    "another task": DATA + "task: classification\ntraining: {learning: scratch, model: cnn, epochs: 3}",
    "its task said twice": DATA + "task: attributes\ntraining: {task: attributes}",
    "additions from review": "name: a\ndata: {source: {kind: sample}, additions: {kind: review}}",
    "floors by class": DATA + "gate: {per_class_minimum: {scratch: 0.5}}",
}


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = use_case_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def read(text: str) -> Any:
    """Return YAML as JSON has it: keys are texts."""
    return json.loads(json.dumps(yaml.safe_load(text)))


@pytest.mark.parametrize("path", USE_CASES, ids=lambda path: path.name)
def test_our_use_cases_are_valid(path: Path, validator: Draft202012Validator):
    assert [error.message for error in validator.iter_errors(read(path.read_text(encoding="utf-8")))] == []


@pytest.mark.parametrize("path", USE_CASES, ids=lambda path: path.name)
def test_our_use_cases_name_the_schema(path: Path):
    (named,) = re.findall(r"^# yaml-language-server: \$schema=(\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert (path.parent / named).resolve() == COMMITTED


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_schema_and_loader_refuse(text: str, validator: Draft202012Validator, tmp_path: Path):
    assert not validator.is_valid(read(text))
    file = tmp_path / "use-case.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError):
        load_config(file)


@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED)
def test_schema_and_loader_accept(text: str, validator: Draft202012Validator, tmp_path: Path):
    assert [error.message for error in validator.iter_errors(read(text))] == []
    file = tmp_path / "use-case.yaml"
    file.write_text(text, encoding="utf-8")
    load_config(file)


def test_the_command_prints_the_committed_schema():
    done = CliRunner().invoke(launch.cli.app, ["schema"])
    assert done.exit_code == 0
    assert done.output == COMMITTED.read_text(encoding="utf-8")
