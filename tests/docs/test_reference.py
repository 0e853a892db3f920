"""Reference pages: those made of the code are current, and the variables of the code are documented."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docs.generate import FOLDER, PAGES, UNITS
from tests.conftest import ROOT
from visionops.config.json_schema import use_case_schema

VARIABLE = re.compile(r"VISIONOPS_[A-Z0-9_]*[A-Z0-9]")
READ = re.compile(r"environ(?:\.get\(|\[|\.setdefault\()[\"']([A-Z][A-Z0-9_]*)[\"']")
"""Where a module of ours reads or sets a variable by its name."""


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_makes(name: str):
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name](), "stale; run make docs-reference"


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(value)


def test_every_key_has_a_meaning():
    schema = use_case_schema()
    models = schema["$defs"] | {"the file": schema}
    for name, model in models.items():
        for key, node in model.get("properties", {}).items():
            model_text = schema["$defs"].get(node.get("$ref", "").rpartition("/")[2], {}).get("description")
            assert node.get("description") or model_text or "const" in node, f"{name}.{key} has no docstring"


def test_units_are_of_keys_that_there_are():
    keys = {key for node in nodes(use_case_schema()) for key in node.get("properties", ())}
    assert set(UNITS) <= keys


def sources() -> Iterator[Path]:
    """Yield our files that a variable may be read in: code, stacks, compose file, chart; no tests, no prose."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.split("\0"):
        kinds = {".py", ".sh", ".yaml", ".yml", ".tpl", ""}
        others = ("tests/", "docs/", "benchmarks/", "LICENSE")
        path = ROOT / name
        if path.is_file() and path.suffix in kinds and not name.startswith(others):
            yield path


def test_every_variable_of_the_code_is_documented():
    documented = set()
    for page in ("environment.md", "server-options.md"):
        documented |= set(re.findall(r"`([A-Z][A-Z0-9_]+)`", (FOLDER / page).read_text(encoding="utf-8")))
    found: set[str] = set()
    tests: set[str] = set()
    for path in sources():
        text = path.read_text(encoding="utf-8")
        if path.name == "Makefile":  # passes switches to tests, which say in their reason what they are
            tests |= set(VARIABLE.findall(text))
            continue
        found |= set(VARIABLE.findall(text)) | set(READ.findall(text))
    assert found - documented - tests == set(), "add them to docs/reference/environment.md"
    ours = {name for name in documented if name.startswith("VISIONOPS_")}
    options = set(VARIABLE.findall((FOLDER / "server-options.md").read_text(encoding="utf-8")))
    assert ours - found - options == set(), "no file reads them; remove them from docs/reference/environment.md"
