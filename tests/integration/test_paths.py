"""Test a project with folder names that are special in a shell, a URL, a pattern and a configuration file."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import psutil
import pytest

from tests.integration.conftest import TINY, Machine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not os.environ.get("VISIONOPS_WHOLE"), reason="takes a minute: make pipelines"),
]


def test_it_trains_resumes_and_serves(tmp_path):
    folder = tmp_path / "a b [x] 50% %41 #1 ä $HOME;& {f} :smile:"
    folder.mkdir()
    machine = Machine(folder)
    killed = machine.start(*[f"--set={setting}" for setting in TINY])
    for line in killed.stderr:
        if "train: 1/2" in line:
            break
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    try:
        summary = machine.train()
        assert machine.versions("sample") == ["1"]
        line = summary["stdout"].splitlines()[-1]
        assert line.startswith("curl ")
        answer = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=True)
        assert json.loads(answer.stdout)["model"]["version"] == "1"
    finally:
        machine.forks.communicate(timeout=60)
        for pid in machine.server_pids():
            process = psutil.Process(pid)
            process.terminate()
            process.wait(timeout=60)
