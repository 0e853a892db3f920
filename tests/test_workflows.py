"""The workflows, checked without GitHub: everything they call exists, and no failure is ignored."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
from collections.abc import Iterator

import pytest
import yaml

import run
from stacks.spec import known_stacks, unset_variables
from tests.conftest import ROOT

WORKFLOWS = {path.stem: path for path in (ROOT / ".github" / "workflows").glob("*.yml")}
EXPRESSION = re.compile(r"\$\{\{.*?\}\}")


@pytest.fixture(params=sorted(WORKFLOWS))
def text(request) -> str:
    return WORKFLOWS[request.param].read_text(encoding="utf-8")


def steps(text: str) -> Iterator[dict]:
    for job in yaml.safe_load(text)["jobs"].values():
        yield from job["steps"]


def scripts(text: str) -> Iterator[str]:
    for step in steps(text):
        if "run" in step:
            yield step["run"]


def commands(text: str) -> Iterator[list[str]]:
    """Yield simple commands as words, without parts that only a shell knows at run time."""
    for script in scripts(text):
        for line in script.replace("\\\n", " ").splitlines():
            if line.strip().startswith(("make ", ".venv/bin/python ", "python ", "kubectl ")):
                # The content of an array is only known at run time: tests/workflows runs the steps.
                yield [word for word in shlex.split(line.split("|")[0]) if not word.endswith("[@]}")]


def test_every_action_is_pinned_to_a_commit_and_says_its_version(text):
    for line in text.splitlines():
        if "uses:" in line:
            assert re.search(r"uses: [\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_no_step_ignores_a_failure_and_permissions_are_named(text):
    assert "|| true" not in text
    assert "continue-on-error" not in text
    parsed = yaml.safe_load(text)
    assert parsed["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] for job in parsed["jobs"].values())


def test_scripts_are_shell_and_take_no_expression(text):
    for script in scripts(text):
        assert not EXPRESSION.search(script)  # text that a person typed would be executed
        done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr


def test_everything_a_workflow_calls_exists(text):
    targets = set(re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in commands(text):
        if words[0] == "make":
            assert words[1] in targets
        elif words[1:2] == ["-m"]:
            assert importlib.util.find_spec(words[2])
        elif words[1:2] == ["run.py"]:
            if "--inspect" not in words:  # it has its own flags
                run.parse(words[2:])
        elif words[0] == "kubectl" and "-f" in words:
            assert (ROOT / words[words.index("-f") + 1]).exists()


@pytest.mark.parametrize("stack", sorted({"staging", "kubernetes", "seldon"} & set(known_stacks())))
def test_a_release_has_every_variable_of_a_stack(stack):
    (job,) = yaml.safe_load(WORKFLOWS["release"].read_text())["jobs"].values()
    assert set(unset_variables(stack, {})) <= {*job["env"], "VISIONOPS_HOME"}
