"""``make demo``, its drill and ``make demo-down``, with all images but Grafana's: `make demo-test`, in minutes.

On a busy machine ``VISIONOPS_DEMO_ARGS="--set training.epochs=2 --set gate.minimum=0"`` trains less.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import requests

from deploy.demo.compose import read_services
from deploy.demo.places import CONSOLE_ADMIN
from deploy.demo.secret_file import CLIENT_KEY, CONSOLE_PASSWORD, read_secrets
from tests.conftest import ROOT
from tests.console.users import sign_in
from tests.helpers.dashboards import panels, shows_something
from tests.helpers.programs import free_port, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

FOLDER = ROOT / ".demo"
# Panels without data in the demo; all others have data after the drill.
EMPTY = {
    "drift: Performance on labelled traffic",
    "model: Withdrawn canaries",
    "model: Images per second in each mode",  # measured while requests queue
    "model: Models that could not be loaded",
    "model: Shadow: agreement",
    "model: Shadow: images per second",
    "model: Shadow: time of an image",
    "release: Agreement with the champion",
    "release: Withdrawn canaries",
    "release: Canary: time of an image",
    "release: Compared images per second",
    "release: Candidates",
    "service: Images of one batch",
    "training: Accuracy per attribute",
    "training: Accuracy per attribute over time",
    "console: Decisions per hour",
    "console: Time per decision",
}
# Panels without data for a model that is hardly trained and finds nothing.
NOTHING_FOUND = {
    "model: Classes per second",
    "model: Confidence",
    "model: Mean confidence",
    "model: Share of classes",
}


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
        given = shlex.split(os.environ.get("VISIONOPS_DEMO_ARGS", ""))
        printed = demo("up", "--without", "grafana", *given)
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

        with httpx.Client(base_url=url("console"), timeout=120, trust_env=False) as console:
            assert sign_in(console, CONSOLE_ADMIN, secrets[CONSOLE_PASSWORD]).status_code == 303
            for page in ("/", "/review", "/models?use_case=sample", "/monitoring?use_case=sample"):
                assert console.get(page).status_code == 200, page
            # A fifth of what was predicted comes into review.
            until(lambda: [case["name"] for case in console.get("/api/review/use-cases").json()] == ["sample"], 120)
        assert requests.get(f"{url('console')}/api/review/use-cases", timeout=60).status_code == 401

        assert requests.post(f"{url('serving')}/predict", data=b"", timeout=60).status_code == 401
        assert requests.get(f"{url('control')}/models", timeout=60).status_code == 401

        assert "VisionOpsDecision" in demo("drill")
        may_be_empty = EMPTY | NOTHING_FOUND if given else EMPTY
        port, missing = services["prometheus"].port, {name for name, _ in panels()}

        def have_data() -> bool:
            # Rates are of the last minutes, and the drill asks the other server.
            sent = {"files": {"file": Path(image).read_bytes()}, "headers": {"X-API-Key": secrets[CLIENT_KEY]}}
            assert requests.post(f"{url('serving')}/predict", timeout=60, **sent).status_code == 200
            missing.difference_update({name for name, query in panels() if shows_something(port, query, "5m")})
            return not missing - may_be_empty

        with suppress(AssertionError):
            until(have_data, 120)
        for board in sorted({name.partition(":")[0] for name, _ in panels()}):
            of_it = {name for name, _ in panels() if name.startswith(f"{board}:")}
            print(f"{board}: {len(of_it - missing)} of {len(of_it)} panels have data; not:", sorted(of_it & missing))
        assert not missing - may_be_empty
    finally:
        demo("down")
    assert state() == before
    assert not FOLDER.exists()
