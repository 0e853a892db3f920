"""Test training, tuning and batch inference with image labels on real images, from the command line."""

from __future__ import annotations

import csv
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.helpers.programs import alertmanager, alertmanager_config, get, pushed, pushgateway
from visionops.monitoring.log_reading import read_request_ids

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is absent"),
]
whole = pytest.mark.skipif(not os.environ.get("VISIONOPS_WHOLE"), reason="takes minutes: make pipelines")
CASTING = ("training.views=mirrored",)
"""Settings that compute a quarter of the use case's features."""
QUICK = ("serving.port=0", "evaluation.worst_images=1", "evaluation.latency_images=2", "gate.minimum=0")


def run(
    machine, use_case: str, *arguments: str, settings: tuple[str, ...] = (), env: dict[str, str] | None = None
) -> dict[str, Any]:
    """Run a command that must succeed and return its summary with its output."""
    summary = machine.folder / "summary.json"
    data = SHARED / use_case.partition("-")[0]
    sets = [f"--set={setting}" for setting in (f"data.source.path={data}", *QUICK, *settings)]
    done = machine.run("--config", f"configs/{use_case}.yaml", "--summary", str(summary), *arguments, *sets, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(summary.read_text(encoding="utf-8")) | {"stdout": done.stdout}


@pytest.fixture(scope="module")
def casting(machine):
    return run(machine, "casting", settings=CASTING)


def test_the_leak_is_found_and_kept_out_of_train(casting):
    assert casting["findings"]["leak"] == 27
    assert casting["splits"]["test"] == 100
    assert casting["splits"]["train"] + casting["splits"]["val"] == 100 - 27


def test_defective_is_the_right_class(casting):
    assert casting["metrics"]["balanced_accuracy"] > 0.85
    right = 0
    for folder, wanted in (("def_front", "defective"), ("ok_front", "ok")):
        for path in sorted((SHARED / "casting" / "test" / folder).iterdir())[:5]:
            answer = httpx.post(
                f"{casting['endpoint']['url']}/predict", files={"file": path.read_bytes()}, timeout=60
            ).json()
            assert set(answer["classification"]["probabilities"]) == {"ok", "defective"}
            right += answer["classification"]["class_name"] == wanted
    assert right >= 8


def test_the_endpoint_shows_where_the_answer_lies(casting):
    path = min((SHARED / "casting" / "test" / "def_front").iterdir())
    picture = httpx.post(f"{casting['endpoint']['url']}/explain", files={"file": path.read_bytes()}, timeout=60)
    assert picture.status_code == 200
    assert picture.headers["content-type"] == "image/png"


@contextmanager
def steady_requests(url: str, image: Path) -> Iterator[list[int]]:
    """Send requests several times a second and return the statuses so far."""
    statuses: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=60) as client:
            while not stop.wait(0.2):
                statuses.append(client.post(f"{url}/predict", files={"file": image.read_bytes()}).status_code)

    client = threading.Thread(target=ask)
    client.start()
    try:
        yield statuses
    finally:
        stop.set()
        client.join(60)


def darkened(folder: Path, images: list[Path]) -> Path:
    """Write labelled images, one folder per class."""
    for path in images:
        target = folder / path.parent.name / f"{path.stem}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).convert("RGB").point(lambda level: level * 0.5).save(target)
    return folder


def test_the_line_changes_people_label_and_the_model_follows(machine, casting, tmp_path):
    url = casting["endpoint"]["url"]
    images = sorted((SHARED / "casting" / "test").rglob("*.jpeg"))
    labelled = tmp_path / "labelled"
    labelled.mkdir()
    settings = (
        *CASTING,
        f"data.additions={{kind: folder, path: {labelled}}}",
        "monitoring.drift.min_images=20",  # the val split has 26
        "monitoring.policy.cooldown_hours=0",
    )

    def watch() -> dict[str, Any]:
        return run(machine, "casting", "--pipeline", "monitoring", settings=settings, env=env)

    config = alertmanager_config(tmp_path / "alertmanager.yml", "http://127.0.0.1:9/nobody")
    with alertmanager(tmp_path / "alertmanager", config) as port, pushgateway(tmp_path / "pushgateway") as gateway:
        env = {"VISIONOPS_ALERTMANAGER": f"http://127.0.0.1:{port}", "VISIONOPS_PUSHGATEWAY": gateway}

        def sent() -> list[str]:
            alerts = json.loads(get(port, "/api/v2/alerts")[1])
            return [alert["annotations"]["description"] for alert in alerts]

        for path in images[::3]:
            httpx.post(f"{url}/predict", files={"file": path.read_bytes()}, timeout=60).raise_for_status()
        calm = watch()
        assert not calm["drift"]["drifted"]
        assert calm["retraining"]["action"] == "nothing"
        assert sent() == []

        drill = ("--pipeline", "drift-drill", "--kind", "brightness", "--severity", "1", "--images", "60")
        run(machine, "casting", *drill, env=env)
        dark = watch()
        assert "feature_brightness" in {c["name"] for c in dark["drift"]["columns"] if c["verdict"] == "drifted"}
        assert dark["retraining"]["action"] == "alert"
        assert (
            "with 0 new labels training would give the same model; label at least 50" in dark["retraining"]["sentence"]
        )
        assert "training" not in dark
        assert sent() == [f"{dark['retraining']['sentence']}."]

        darkened(labelled, images[::2])
        with steady_requests(url, images[0]) as statuses:
            learned = watch()
        assert learned["retraining"]["action"] == "retrain"
        assert learned["labelled"]["performance"]["images"] == 50
        assert sent() == [f"{learned['retraining']['sentence']}."]
        assert learned["training"]["splits"]["test"] > casting["splits"]["test"]
        gate = learned["training"]["gate"]
        assert gate["reason"].startswith("promoted: " if gate["promote"] else "refused: ")
        champion = "2" if gate["promote"] else "1"
        assert httpx.get(f"{url}/model", timeout=60).json()["version"] == champion
        figures = pushed(gateway, "casting")
        assert figures["visionops_training_promoted",] == gate["promote"]
        assert figures["visionops_decision", "retrain"] == 1
        assert len(statuses) > 10
        assert set(statuses) == {200}


@whole
def test_the_best_of_a_grid_is_trained_and_judged_on_test(machine):
    quick = ("training.epochs=1", "training.image_size=32", "tuning.grid=[{filters: 8}, {filters: 4, kernel: 5}]")
    searched = run(machine, "casting-cnn", "--pipeline", "tuning", settings=quick)
    assert "--tuned" in searched["stdout"]
    tuned = run(machine, "casting-cnn", "--tuned", settings=quick)
    assert 0 <= tuned["metrics"]["balanced_accuracy"] <= 1
    assert tuned["model"]["version"] == "1"


@whole
def test_a_lot_without_labels_is_answered_in_a_batch(machine, tmp_path):
    run(machine, "faces", settings=("training.epochs=1", "training.image_size=32", "training.filters=8"))
    # ZenML still lists artifacts of a deleted store, but the next run must read the images again.
    shutil.rmtree(machine.folder / "home" / "artifacts")
    batch = ("--pipeline", "batch_inference", "--output", str(tmp_path))
    run(machine, "faces", *batch)
    (table,) = tmp_path.rglob("predictions.csv")
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 240
    assert all(row["key"].startswith("s3/") and not row["error"] for row in rows)
    assert {row["hair_length"] for row in rows} <= {"bald", "short", "long"}
    # As if the run had been killed before the last images: shards predict the missing ones, with the same tables.
    newest = max((tmp_path / "segments").rglob("*.parquet"), key=lambda path: path.name)
    lost = pq.read_metadata(newest).num_rows
    newest.unlink()
    names = ("predictions.csv", "predictions.parquet")
    before = [(tmp_path / name).read_bytes() for name in names]
    again = run(machine, "faces", *batch, "--shards", "3")
    assert again["batch"]["predicted"] == lost
    assert [(tmp_path / name).read_bytes() for name in names] == before
    remembered = read_request_ids(machine.folder / "home" / "prediction-log" / "faces", "batch/")
    assert {name.split("/", 2)[2].partition("#")[0] for name in remembered} == {row["key"] for row in rows}
