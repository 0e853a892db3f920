"""Test one use case on the stacks `local` and `staging`, with only `zenml stack set` between them.

PostgreSQL, the S3 store, the MLflow server and the container are real; without an image of our server, a custom stack
has the local deployer instead. VISIONOPS_WHOLE=1 uses the full configs/sample.yaml, which takes minutes.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from stacks.deployers.containers import ContainerEndpoint, ContainerSettings
from stacks.deployers.engines import find_engine
from tests.integration.conftest import TINY, figures
from visionops.errors import DeploymentError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not os.environ.get("VISIONOPS_STAGING"), reason="takes minutes: make staging"),
]

WHOLE = bool(os.environ.get("VISIONOPS_WHOLE"))
ZENML = Path(sys.executable).with_name("zenml")


def has_image() -> bool:
    settings = ContainerSettings()
    try:
        find_engine(settings.engine, settings.image)
    except DeploymentError:
        return False
    return True


def test_trained_and_served_on_both_with_equal_figures_and_predictions(machine, shared_servers):
    variables, store = shared_servers

    def call(program: str | Path, *arguments: str) -> None:
        done = machine.run(*arguments, program=program, env=variables)
        assert done.returncode == 0, done.stderr[-3000:]

    def train() -> tuple[dict, list[list[dict]]]:
        # A separate use case, so that another test's steps do not find these trainings finished.
        own = ["name=belt", "serving.port=0"] + ([] if WHOLE else ["data.source.images=44"])
        summary = machine.train(*own, settings=[] if WHOLE else TINY, env=variables)
        images = sorted((machine.folder / "home" / "data").glob("sample-*/**/*.jpg"))[:8]
        return summary, predictions(summary["endpoint"], images)

    stack = "staging"
    call("stacks/apply.py", stack)
    local, on_local = train()
    shutil.rmtree(machine.folder / "home" / "training")  # otherwise the second training would reuse the first one
    if not has_image():
        stack = "processes"
        call(ZENML, "stack", "copy", "staging", stack)
        call(ZENML, "stack", "update", stack, "--model_deployer", "local")
    call(ZENML, "stack", "set", stack)
    try:
        staging, on_staging = train()
    finally:
        call(ZENML, "stack", "set", "local")
        ContainerEndpoint(machine.folder / "home" / "containers" / "belt").delete()

    assert (local["stack"], staging["stack"]) == ("local", stack)
    assert figures(staging) == figures(local)
    assert any(on_local)
    assert on_staging == on_local
    kept = {item["Key"].split("/")[0] for item in store.list_objects_v2(Bucket="visionops")["Contents"]}
    assert kept == {"artifacts", "mlflow"}


def predictions(endpoint: dict, images: list[Path]) -> list[list[dict]]:
    command = endpoint["key_command"]
    headers = {"X-API-Key": subprocess.check_output(shlex.split(command), text=True).strip()} if command else {}
    answers = []
    for image in images:
        files = {"file": image.read_bytes()}
        answer = httpx.post(
            f"{endpoint['url']}/predict", files=files, params={"conf": 0.001}, headers=headers, timeout=60
        )
        assert answer.status_code == 200, answer.text
        answers.append(answer.json()["detections"])
    return answers
