import os
import socket
import subprocess
import sys
from pathlib import Path

from stacks.zenml_server import ignore_empty_store

ROOT = Path(__file__).resolve().parents[2]


def test_a_stopped_zenml_server_is_one_line_with_the_way_back(tmp_path):
    with socket.socket() as taken:  # bound but not listening: the port is taken and does not answer
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        environment = os.environ | {
            "ZENML_CONFIG_PATH": str(tmp_path),
            "ZENML_STORE_URL": url,
            "ZENML_ANALYTICS_OPT_IN": "false",
        }
        done = subprocess.run(
            [sys.executable, "-m", "stacks.apply", "local"],
            check=False,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert done.returncode == 2
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith(f"error: ZenML server {url}: does not answer")
    assert "`zenml logout`" in line
    assert "Traceback" not in done.stderr


def test_an_empty_address_is_none(monkeypatch):
    """A GitHub release sets the variable to "" if its environment has no server."""
    monkeypatch.setenv("ZENML_STORE_URL", "")
    monkeypatch.setenv("ZENML_STORE_API_KEY", "key")
    ignore_empty_store()
    assert "ZENML_STORE_URL" not in os.environ
    assert os.environ["ZENML_STORE_API_KEY"] == "key"
