"""Execute the blocks marked `run` in the guides, and check the flags of the other programs that are installed.

`make docs-commands` runs these tests. The API server comes from `tests.helpers.cluster`; ZenML has an empty database.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from tests.conftest import ROOT
from tests.docs.blocks import GUIDES, Block, blocks, commands
from tests.helpers.cluster import running_cluster

pytestmark = [
    pytest.mark.skipif("VISIONOPS_DOCS" not in os.environ, reason="make docs-commands"),
    pytest.mark.timeout(1800),
]

STANDS_FOR = {"…": "x", "REGISTRY": "localhost", ":TAG": ":1", "BUCKET": "visionops"}
"""Placeholders in the guides and the values used instead."""
SCRIPTS = [block for guide in GUIDES for block in blocks(guide) if block.language == "bash"]
EXECUTED = [pytest.param(block, id=block.place) for block in SCRIPTS if block.mark == "run"]
ZENML = [(b.place, words) for b in SCRIPTS for words in commands(b.text) if words[0] == "zenml"]
OTHERS = [(b.place, words) for b in SCRIPTS for words in commands(b.text) if words[0] in {"kubectl", "helm"}]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return the environment of a user who has just created `.venv` and has a cluster."""
    with running_cluster(tmp_path) as cluster:
        cluster.namespaces.clear()
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        own = {"PATH": path, "PYTHONPATH": str(ROOT), "KUBECONFIG": os.environ["KUBECONFIG"], "HOME": str(tmp_path)}
        yield (
            os.environ
            | own
            | {
                "ZENML_CONFIG_PATH": str(tmp_path / "zenml"),
                "ZENML_ANALYTICS_OPT_IN": "false",
                "VISIONOPS_HOME": str(tmp_path / "visionops"),
            }
        )


@pytest.mark.parametrize("block", EXECUTED)
def test_an_executed_block_succeeds_and_registers_its_stacks(block: Block, machine: dict[str, str]):
    script = block.text
    for word, value in STANDS_FOR.items():
        script = re.sub(rf"(?<![A-Z_]){word}", value, script)  # does not replace a part of VISIONOPS_S3_BUCKET
    if "kubectl" in script and shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(
        ["bash", "-euxo", "pipefail"], input=script, env=machine, cwd=ROOT, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    registered = re.findall(r"zenml stack register (\w+)", script)
    listed = subprocess.run(["zenml", "stack", "list"], env=machine, capture_output=True, text=True, check=True).stdout
    assert all(name in listed for name in registered)


def test_zenml_has_the_commands_and_flags():
    from zenml_cli import cli

    for place, (_, *rest) in ZENML:
        command: Any = cli
        words = rest
        while isinstance(command, click.Group) and words:
            name, *words = words
            found = command.commands.get(name)
            assert found, f"{place}: zenml has no {name}"
            command = found
        flags = {flag for parameter in command.params for flag in parameter.opts}
        takes_any = command.context_settings.get("ignore_unknown_options") or any(
            getattr(parameter, "nargs", 1) == -1 for parameter in command.params
        )
        unknown = {word.partition("=")[0] for word in words if word.startswith("-")} - flags
        assert takes_any or not unknown, f"{place}: {unknown}"


@pytest.mark.parametrize(("place", "words"), OTHERS)
def test_kubectl_and_helm_have_the_flags(place: str, words: list[str]):
    helm = ROOT / ".helm" / "helm"
    program = shutil.which(words[0]) or (str(helm) if words[0] == "helm" and helm.exists() else None)
    if program is None:
        pytest.skip(f"{words[0]} is not installed")
    named = zip(["", *words[1:]], words[1:], strict=False)
    plain = [word for before, word in named if re.fullmatch(r"[a-z][a-z-]*", word) and before != "-n"]
    help_text = subprocess.run([program, "options"], capture_output=True, text=True, check=False).stdout
    for subcommand in (plain[:1], plain[:2], plain[:3]):
        command = [program, *subcommand, "--help"]
        help_text += subprocess.run(command, capture_output=True, text=True, check=False).stdout
    for word in words[1:]:
        if re.fullmatch(r"-(-[a-z-]+|\w)(=.*)?", word, re.DOTALL):
            flag = word.partition("=")[0]
            assert re.search(rf"(?<![\w-]){flag}(?![\w-])", help_text), f"{place}: {flag}"
