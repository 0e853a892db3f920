"""Check that every command and file in the guides exists: programs, flags, targets, names, YAML."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import typer.main
import yaml

import launch.cli
import run
from stacks.spec import known_stacks
from stacks.steps import StepSpec, check_step_names
from tests.conftest import ROOT
from tests.docs.blocks import GUIDES, MARKS, Block, blocks, commands

SHELL = {"cat", "cd", "export", "umask"}
ELSEWHERE = {
    "airflow",
    "base64",
    "curl",
    "docker",
    "helm",
    "kubectl",
    "openssl",
    "pip",
    "podman",
    "podman-compose",
    "python3",
}
"""Programs that are not ours; `make docs-commands` checks the flags of those that are installed."""
PATHS = re.compile(r"(?:configs|deploy|stacks|tests)/[\w./-]+\.\w+")
MADE = {"deploy/.env"}
ALL = [pytest.param(block, id=block.place) for guide in GUIDES for block in blocks(guide)]
SCRIPTS = [parameter for parameter in ALL if parameter.values[0].language == "bash"]
TEXTS = [parameter for parameter in ALL if parameter.values[0].language == "yaml"]


def test_commands_are_split_as_a_shell_splits_them():
    text = "A=1 b -c \"d e\" \\\n  --f | g &\nexport X=$(h i)   # no j\ncat > f <<'END'\nk l\nEND\n"
    assert list(commands(text)) == [["b", "-c", "d e", "--f"], ["g"], ["h", "i"], ["export", "X=_"], ["cat", ">", "f"]]


@pytest.mark.parametrize("block", ALL)
def test_a_block_has_a_known_mark_and_existing_paths(block: Block):
    assert block.mark in MARKS
    for path in PATHS.findall(block.text):
        assert path in MADE or (ROOT / path).exists(), path


@pytest.mark.parametrize("block", SCRIPTS)
def test_commands_exist_and_have_their_flags(block: Block):
    done = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    for words in commands(block.text):
        program, *rest = words
        if program == "python":
            check_python(rest)
        elif program == "make":
            assert re.search(rf"^{re.escape(rest[0])}:", (ROOT / "Makefile").read_text(), re.MULTILINE), rest
        elif program == "visionops":
            check_visionops(rest)
        elif program != "zenml":  # make docs-commands checks its flags, because importing it takes seconds
            assert Path(program).name in SHELL | ELSEWHERE, (
                f"{program}: unknown program; fix its spelling or add it to ELSEWHERE"
            )


def check_python(words: list[str]) -> None:
    if words[0] == "run.py":
        request = run.parse(words[1:])
        assert request.stack in {None, "vision", *known_stacks()}
        return
    flag, module, *rest = words
    assert flag == "-m"
    assert importlib.util.find_spec(module), module
    known = help_of(module)
    assert {word.partition("=")[0] for word in rest if word.startswith("-")} <= known
    if module.startswith("stacks."):
        assert next(word for word in rest if not word.startswith("-")) in known_stacks()


def help_of(module: str) -> set[str]:
    """Return the flags in a module's `--help`."""
    output = io.StringIO()
    found = importlib.import_module(module)
    if not hasattr(found, "main"):
        found = importlib.import_module(f"{module}.__main__")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        patch.setenv("COLUMNS", "200")
        found.main(["--help"])
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", output.getvalue()))


def check_visionops(words: list[str]) -> None:
    group: Any = typer.main.get_command(launch.cli.app)
    while isinstance(group, click.Group):
        name, *words = words
        assert name in group.commands, name
        group = group.commands[name]
    group.make_context(group.name, list(words), resilient_parsing=False)


@pytest.mark.parametrize("block", TEXTS)
def test_yaml_is_valid_for_its_reader(block: Block):
    (text, *more) = [part for part in yaml.safe_load_all(block.text) if part]
    assert not more
    if "kind" in text:
        for version in ("1.30", "1.35"):
            kubernetes_validate.validate(text, version, strict=True)
    for name, words in text.get("steps", {}).items():
        check_step_names([name])
        StepSpec.model_validate(words)
    for use_case in text.get("useCases", ()):
        assert (ROOT / use_case["config"]).exists()
    if "images" in text:
        check_values(text)


def check_values(values: dict[str, Any]) -> None:
    """Check values of the chart with its schema, merged into the defaults as Helm does."""
    import jsonschema

    chart = ROOT / "deploy" / "helm" / "visionops"
    defaults = yaml.safe_load((chart / "values.yaml").read_text())
    jsonschema.validate(merged(defaults, filled_in(values)), json.loads((chart / "values.schema.json").read_text()))


def filled_in(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values without the placeholders that the reader has to fill in."""
    return {k: filled_in(v) if isinstance(v, dict) else v for k, v in values.items() if v != "…"}


def merged(defaults: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    nested = {
        k: merged(defaults[k], v)
        for k, v in overrides.items()
        if isinstance(v, dict) and isinstance(defaults.get(k), dict)
    }
    return defaults | overrides | nested
