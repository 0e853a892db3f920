"""A step in a container runs the code of the client that started it, or says that it does not."""

from __future__ import annotations

import shutil

import pytest

from stacks.same_code import CODE_VARIABLE, code_digest, require_same_code
from tests.conftest import ROOT
from visionops.errors import StackError


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
