"""The whole way on the local stack: real ZenML, MLflow, trainer, engine and server."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.helpers.datasets import write_vision
from tests.helpers.images import truncated_jpeg
from tests.integration.conftest import TINY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def first(machine):
    """The first run, killed in training, and the same command again."""
    process = machine.start(*[f"--set={setting}" for setting in TINY])
    for line in process.stderr:
        if "train: 1/2" in line:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    return machine.train() | {"killed": process.returncode}


def post(endpoint: dict, image: Path) -> dict:
    answer = httpx.post(
        f"{endpoint['url']}/predict", files={"file": image.read_bytes()}, params={"conf": 0.001}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_killed_in_training_the_same_command_goes_on(machine, first):
    assert first["killed"] == -signal.SIGKILL
    assert machine.versions("sample") == ["1"]
    assert len(machine.server_pids("sample")) == 1


def test_images_become_a_served_champion(first):
    assert set(first["splits"]) >= {"train", "val", "test"}
    assert {"map50", "map50_95", "precision", "recall", "latency_ms_p50", "latency_ms_p95"} <= set(first["metrics"])
    assert first["gate"]["promote"]
    assert first["model"] == {"name": "sample", "version": "1", "alias": "champion"}
    answer = post(first["endpoint"], Path(first["sample_image"]))
    assert answer["model"] == {"name": "sample", "version": "1", "alias": "champion"}
    assert answer["image"] == {"width": 128, "height": 128}


def test_a_second_run_changes_nothing_and_says_so(machine, first):
    again = machine.train()
    assert again["model"] == first["model"]
    assert "champion already" in again["gate"]["reason"]
    assert again["endpoint"] == first["endpoint"]
    assert len(machine.server_pids("sample")) == 1


def test_the_printed_curl_line_works(first):
    line = next(line for line in first["stdout"].splitlines() if line.startswith("curl "))
    done = subprocess.run(shlex.split(line), capture_output=True, text=True, check=True, timeout=30)
    assert '"detections"' in done.stdout


def test_a_broken_image_stops_the_run_in_one_line_and_registers_nothing(machine, first, tmp_path):
    root = tmp_path / "vision"
    write_vision(root, images=12)
    broken = next(root.rglob("*.jpg"))
    broken.write_bytes(truncated_jpeg())
    sets = [f"--set={setting}" for setting in TINY if not setting.startswith("data.source")]
    source = f"--set=data.source={{kind: folder, path: {root}}}"
    done = machine.run("--set=name=broken", source, *sets)
    assert done.returncode == 2
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert broken.relative_to(root).as_posix() in error
    assert "Traceback" not in done.stderr
    assert machine.versions("broken") == []


def test_the_gate_refuses_and_the_champion_stays(machine, first):
    refused = machine.train("training.seed=1", "gate.minimum=0.99")
    assert not refused["gate"]["promote"]
    assert "below the gate of 0.990" in refused["gate"]["reason"]
    assert refused["model"] == {"name": "sample", "version": "2", "alias": "challenger"}
    assert refused["endpoint"]["version"] == "1"


def test_promotion_then_rollback_in_registry_and_at_the_endpoint(machine, first):
    second = machine.train("training.seed=1", "gate.margin=0", "gate.confidence=0")
    if not second["gate"]["promote"]:
        pytest.fail(f"the second model should tie or win with no margin: {second['gate']}")
    assert second["model"]["version"] == "2", "the refused one, under another gate: nothing is trained again"
    image = Path(first["sample_image"])
    assert post(second["endpoint"], image)["model"]["version"] == second["model"]["version"]
    done = machine.run("--pipeline", "deployment", "--rollback", "--set=serving.port=0")
    assert done.returncode == 0, done.stderr
    assert post(second["endpoint"], image)["model"]["version"] == "1"


def test_the_champion_is_quantized_and_served(machine, first):
    sets = [f"--set={setting}" for setting in [*TINY, "quantization.max_loss=1"]]
    summary = machine.folder / "quantized.json"
    done = machine.run("--summary", str(summary), "--pipeline", "quantize", *sets)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(summary.read_text(encoding="utf-8"))
    assert told["model"]["alias"] == "champion"
    assert "is within 1.000 of the champion's" in told["gate"]["reason"]
    assert httpx.get(f"{told['endpoint']['url']}/model", timeout=60).json()["precision"] == "int8"
