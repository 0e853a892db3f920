"""Test training to serving on the local stack with real ZenML, MLflow, trainer, engine and server.

The runs of one use case build on each other: each is a fixture that depends on the previous one and stores its results,
so tests can run in any order.
"""

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

FACTS = """
import json
from launch.facts import FACTS

images = FACTS["data_images"](None, "sample", "", 0, 100)
found = {
    "data": FACTS["data"](None, "sample"),
    "cards": [FACTS["data_card"](None, "sample", card) for card in ("validation", "labels")],
    "images": images,
    "one": FACTS["data_images"](None, "sample", images["images"][3]["sha256"][:16], 0, 100),
    "other": [
        FACTS["data"](None, "x"), FACTS["data_card"](None, "x", "labels"), FACTS["data_images"](None, "x", "", 0, 9)
    ],
    "endpoints": FACTS["endpoints"](None),
}
print(json.dumps(found))
"""
"""Program that reads facts like the console, through `launch.facts`."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def first(machine):
    """Return the first run, killed in training and resumed by the same command."""
    process = machine.start(*[f"--set={setting}" for setting in TINY])
    for line in process.stderr:
        if "train: 1/2" in line:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    summary = machine.train()
    return summary | {
        "killed": process.returncode,
        "versions": machine.versions("sample"),
        "servers": machine.server_pids("sample"),
        "answer": post(summary["endpoint"], Path(summary["sample_image"])),
    }


@pytest.fixture(scope="module")
def again(machine, first):
    """Return a repeated run of the same command."""
    return machine.train() | {"servers": machine.server_pids("sample")}


@pytest.fixture(scope="module")
def refused(machine, again):
    """Return a run with another model, which does not pass the gate."""
    return machine.train("training.seed=1", "gate.minimum=0.99")


@pytest.fixture(scope="module")
def promoted(machine, refused):
    """Return a run with the same model under a gate that it passes."""
    summary = machine.train("training.seed=1", "gate.margin=0", "gate.confidence=0")
    return summary | {"answer": post(summary["endpoint"], Path(summary["sample_image"]))}


@pytest.fixture(scope="module")
def rolled_back(machine, promoted):
    """Return the endpoint's answer after a rollback."""
    done = machine.run("--pipeline", "deployment", "--rollback", "--set=serving.port=0")
    assert done.returncode == 0, done.stderr
    return post(promoted["endpoint"], Path(promoted["sample_image"]))


def post(endpoint: dict, image: Path) -> dict:
    answer = httpx.post(
        f"{endpoint['url']}/predict", files={"file": image.read_bytes()}, params={"conf": 0.001}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_killed_in_training_the_same_command_goes_on(first):
    assert first["killed"] == -signal.SIGKILL
    assert first["versions"] == ["1"]
    assert len(first["servers"]) == 1


def test_images_become_a_served_champion(first):
    assert set(first["splits"]) >= {"train", "val", "test"}
    assert {"map50", "map50_95", "precision", "recall", "latency_ms_p50", "latency_ms_p95"} <= set(first["metrics"])
    assert first["gate"]["promote"]
    assert first["model"] == {"name": "sample", "version": "1", "alias": "champion"}
    answer = first["answer"]
    assert answer["model"] == {"name": "sample", "version": "1", "alias": "champion"}
    assert answer["image"] == {"width": 128, "height": 128}


def test_a_second_run_changes_nothing_and_says_so(first, again):
    assert again["model"] == first["model"]
    assert "champion already" in again["gate"]["reason"]
    assert again["endpoint"] == first["endpoint"]
    assert len(again["servers"]) == 1


def test_the_console_reads_what_the_run_keeps_of_its_data(machine, again):
    script = machine.folder / "facts.py"
    script.write_text(FACTS)
    done = machine.run(program=script)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["data"]["splits"] == again["splits"]
    assert sorted(found["data"]["counts"]["classes"]) == ["inclusion", "patch", "pit", "scratch"]
    assert found["data"]["cards"] == ["validation", "labels"]
    assert ["<html" in page.lower() for page in found["cards"]] == [True, True]
    assert found["images"]["count"] == sum(again["splits"].values())
    (image,) = found["one"]["images"]
    assert image["key"] in {one["key"] for one in found["images"]["images"]}
    assert image["split"] in again["splits"]
    assert found["other"] == [None, None, {"count": 0, "images": []}]
    (served,) = found["endpoints"]["endpoints"]
    assert (served["name"], served["url"]) == ("sample", again["endpoint"]["url"])


def test_the_printed_curl_line_works(first):
    line = next(line for line in first["stdout"].splitlines() if line.startswith("curl "))
    done = subprocess.run(shlex.split(line), capture_output=True, text=True, check=True, timeout=60)
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


def test_the_gate_refuses_and_the_champion_stays(refused):
    assert not refused["gate"]["promote"]
    assert "below the gate of 0.990" in refused["gate"]["reason"]
    assert refused["model"] == {"name": "sample", "version": "2", "alias": "challenger"}
    assert refused["endpoint"]["version"] == "1"


def test_promotion_then_rollback_in_registry_and_at_the_endpoint(promoted, rolled_back):
    if not promoted["gate"]["promote"]:
        pytest.fail(f"the second model should tie or win with no margin: {promoted['gate']}")
    assert promoted["model"]["version"] == "2", "the refused model under another gate, without a new training"
    assert promoted["answer"]["model"]["version"] == promoted["model"]["version"]
    assert rolled_back["model"]["version"] == "1"


def test_the_champion_is_quantized_and_served(machine, rolled_back):
    sets = [f"--set={setting}" for setting in [*TINY, "quantization.max_loss=1"]]
    summary = machine.folder / "quantized.json"
    done = machine.run("--summary", str(summary), "--pipeline", "quantize", *sets)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(summary.read_text(encoding="utf-8"))
    assert found["model"]["alias"] == "champion"
    assert "is within 1.000 of the champion's" in found["gate"]["reason"]
    assert httpx.get(f"{found['endpoint']['url']}/model", timeout=60).json()["precision"] == "int8"
