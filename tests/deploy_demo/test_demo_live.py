"""``make demo``, its drill and ``make demo-down``, with all images but Grafana's: `make demo-test`, in minutes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
import requests

from deploy.demo.compose import read_services
from deploy.demo.secret_file import CLIENT_KEY, read_secrets
from tests.conftest import ROOT
from tests.helpers.programs import free_port, query, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

FOLDER = ROOT / ".demo"
# What each dashboard is drawn from; tests/deploy_monitoring checks every query of their panels.
FIGURES = (
    'visionops_requests_total{route="/predict", status="200"}',
    "visionops_training_metric",
    "visionops_pipeline_succeeded",
    "visionops_drift_share",
)


def podman(*words: str) -> list[str]:
    done = subprocess.run(["podman", *words], capture_output=True, text=True, check=True)
    return done.stdout.split()


def state() -> dict[str, list[str]]:
    return {
        "containers": podman("ps", "--all", "--format", "{{.Names}}"),
        "volumes": podman("volume", "ls", "--format", "{{.Name}}"),
        "networks": podman("network", "ls", "--format", "{{.Name}}"),
    }


def test_from_nothing_to_an_alert_and_back_to_nothing():
    if not os.environ.get("VISIONOPS_DEMO"):
        pytest.skip("it takes minutes: make demo-test")
    for name in ("podman", "podman-compose"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is absent: apt-get install podman; pip install podman-compose")
    if FOLDER.exists():
        pytest.skip(f"{FOLDER}: a demo runs here; make demo-down")
    ports = {s.port_variable: str(free_port()) for s in read_services({}).values() if s.port}

    def demo(*words: str) -> str:
        command = [sys.executable, "-m", "deploy.demo", *words]
        done = subprocess.run(command, cwd=ROOT, env=os.environ | ports, capture_output=True, text=True, check=False)
        print(done.stdout + done.stderr)
        assert done.returncode == 0, done.stderr
        return done.stdout

    before = state()
    try:
        printed = demo("up", "--without", "grafana")
        secrets = read_secrets(FOLDER / "secrets.env")
        services = read_services(secrets)

        def url(name: str) -> str:
            return f"http://127.0.0.1:{services[name].port}"

        assert url("zenml") in printed
        image = json.loads((FOLDER / "summary.json").read_text())["sample_image"]
        shown = subprocess.run(
            [
                "curl",
                "-s",
                "-H",
                f"X-API-Key: {secrets[CLIENT_KEY]}",
                "-F",
                f"file=@{image}",
                f"{url('serving')}/predict",
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert json.loads(shown)["model"] == {"name": "sample", "version": "1", "alias": "champion"}

        login = {"username": "visionops", "password": secrets["VISIONOPS_ZENML_PASSWORD"]}
        token = requests.post(f"{url('zenml')}/api/v1/login", data=login, timeout=60).json()["access_token"]
        bearer = {"Authorization": f"Bearer {token}"}
        runs = requests.get(f"{url('zenml')}/api/v1/runs", headers=bearer, timeout=60).json()["items"]
        assert [run["body"]["status"] for run in runs] == ["completed"]
        refused = requests.post(f"{url('zenml')}/api/v1/login", data={"username": "default"}, timeout=60)
        assert refused.status_code == 401

        admin = {"X-API-Key": secrets["VISIONOPS_ADMIN_KEY"]}
        models = requests.get(f"{url('control')}/models", headers=admin, timeout=300).json()
        assert "sample" in json.dumps(models)

        assert "VisionOpsDecision" in demo("drill")
        for figure in FIGURES:
            until(lambda figure=figure: query(services["prometheus"].port, figure))
    finally:
        demo("down")
    assert state() == before
    assert not FOLDER.exists()
