"""Test that a step in a container checks its code against the client that started it."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys

import pytest

from stacks.same_code import CODE_VARIABLE, code_digest, require_same_code
from tests.conftest import ROOT
from visionops.errors import StackError

PIPELINES = (
    "batch_inference",
    "deployment",
    "drift_drill",
    "monitoring",
    "quantize",
    "training",
    "tuning",
    "validation",
)
OTHER = "0123456789abcdef"


def test_the_same_code_passes(monkeypatch):
    monkeypatch.delenv(CODE_VARIABLE, raising=False)
    require_same_code()
    monkeypatch.setenv(CODE_VARIABLE, code_digest())
    require_same_code()


def test_other_code_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setenv(CODE_VARIABLE, "0123456789abcdef")
    monkeypatch.setenv("VISIONOPS_IMAGE_REVISION", "v1-3-gabc")
    with pytest.raises(StackError, match=rf"{code_digest()}, revision v1-3-gabc.*0123456789abcdef.*make images"):
        require_same_code()


def test_it_is_the_sources_that_count(tmp_path):
    for package in ("materializers", "pipelines", "stacks", "steps", "visionops"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    assert code_digest(tmp_path) == code_digest()
    (tmp_path / "stacks" / "kubernetes.yaml").write_text("")
    (tmp_path / "steps" / "__pycache__").mkdir()
    (tmp_path / "steps" / "__pycache__" / "x.pyc").write_text("")
    assert code_digest(tmp_path) == code_digest()
    (tmp_path / "steps" / "learning.py").write_text("# other\n")
    assert code_digest(tmp_path) != code_digest()


def test_importing_steps_looks_at_no_variable():
    code = (
        "from zenml.utils import source_utils; source_utils.set_custom_source_root('.'); "
        "import steps, steps.data; print('imported')"
    )
    other = os.environ | {CODE_VARIABLE: OTHER}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=other, text=True, capture_output=True, check=True)
    assert "imported" in done.stdout


@pytest.mark.parametrize("name", PIPELINES)
def test_each_pipeline_looks_before_its_steps(name):
    made = getattr(importlib.import_module(f"pipelines.{name}"), name)
    assert made.configuration.init_hook_source.import_path == "stacks.same_code.require_same_code"


@pytest.mark.filterwarnings("ignore")  # ZenML and SQLAlchemy warn of their own code
@pytest.mark.usefixtures("zenml_home")
def test_a_step_does_not_begin_in_other_code(monkeypatch):
    from tests.stacks.noted import noted, ran

    monkeypatch.setenv(CODE_VARIABLE, OTHER)
    with pytest.raises(Exception, match="init hook") as refused:
        noted()
    assert isinstance(refused.value.__cause__, StackError)
    assert ran == []
    monkeypatch.setenv(CODE_VARIABLE, code_digest())
    noted()
    assert ran == ["note"]
