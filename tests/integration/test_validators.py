"""Test a stack without a data validator, from the command line."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.integration.conftest import ROOT, TINY, Machine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not os.environ.get("VISIONOPS_WHOLE"), reason="takes a minute: make pipelines"),
]

_BARE = """
from zenml.client import Client
from zenml.enums import StackComponentType
client = Client()
components = {kind: found[0].id for kind, found in client.get_stack("local").components.items()}
del components[StackComponentType.DATA_VALIDATOR]
client.create_stack("bare", components)
"""


def test_it_is_refused_in_one_line_with_the_fix_before_anything_is_read(machine: Machine):
    command = [sys.executable, "-m", "stacks.apply", "local"]
    subprocess.run(command, cwd=ROOT, env=machine.env, check=True, capture_output=True)
    subprocess.run([sys.executable, "-c", _BARE], cwd=ROOT, env=machine.env, check=True, capture_output=True)
    # Other tests of this machine may have fetched data before.
    fetched = {path.name for path in (machine.folder / "home").glob("data/*")}
    sets = [f"--set={setting}" for setting in [*TINY, "data.source.images=43"]]
    done = machine.run("--pipeline", "validation", "--stack", "bare", *sets)
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.strip().splitlines()[-1] == (
        "error: stack 'bare': missing data validator; run visionops stack apply local, then zenml stack update bare "
        "-dv local"
    )
    assert {path.name for path in (machine.folder / "home").glob("data/*")} == fetched
