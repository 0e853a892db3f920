"""The engines send no telemetry and write nothing into the user's home."""

from __future__ import annotations

import os
import subprocess
import sys

SCRIPT = """
import sys
from pathlib import Path
from tests.helpers.bundles import make_bundle
from visionops.inference.settings import EngineName
from visionops.inference.engines import load_engine

bundle = make_bundle(Path(sys.argv[1]))
for engine in EngineName:
    load_engine(bundle, engine)
"""


def test_the_engines_leave_no_trace_in_the_users_home(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    # CI, which some engines treat as a switch, is not set on people's machines.
    environment = {k: v for k, v in os.environ.items() if k not in {"CI", "TF_BUILD", "JENKINS_URL", "XDG_CACHE_HOME"}}
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "bundle")], env=environment | {"HOME": str(home)}, check=True
    )
    assert list(home.rglob("*")) == []
