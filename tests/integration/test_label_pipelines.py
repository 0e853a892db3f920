"""Labels of whole images, on real ones: training, tuning, batch inference through the command line."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is absent"),
]
QUICK = ("serving.port=0", "evaluation.worst_images=1", "evaluation.latency_images=2", "gate.minimum=0")


def run(machine, use_case: str, *arguments: str, settings: tuple[str, ...] = ()) -> dict[str, Any]:
    """A run that must succeed; its summary, and what it printed."""
    summary = machine.folder / "summary.json"
    data = SHARED / use_case.partition("-")[0]
    sets = [f"--set={setting}" for setting in (f"data.source.path={data}", *QUICK, *settings)]
    done = machine.run("--config", f"configs/{use_case}.yaml", "--summary", str(summary), *arguments, *sets)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(summary.read_text(encoding="utf-8")) | {"stdout": done.stdout}


@pytest.fixture(scope="module")
def casting(machine):
    return run(machine, "casting")


def test_the_leak_is_found_and_kept_out_of_train(casting):
    assert casting["findings"]["leak"] == 27
    assert casting["splits"]["test"] == 100
    assert casting["splits"]["train"] + casting["splits"]["val"] == 100 - 27


def test_defective_is_the_right_class(casting):
    assert casting["metrics"]["balanced_accuracy"] > 0.85
    right = 0
    for folder, wanted in (("def_front", "defective"), ("ok_front", "ok")):
        for path in sorted((SHARED / "casting" / "test" / folder).iterdir())[:5]:
            answer = httpx.post(f"{casting['endpoint']['url']}/predict", files={"file": path.read_bytes()}).json()
            assert set(answer["classification"]["probabilities"]) == {"ok", "defective"}
            right += answer["classification"]["class_name"] == wanted
    assert right >= 8


def test_the_endpoint_shows_where_the_answer_lies(casting):
    path = min((SHARED / "casting" / "test" / "def_front").iterdir())
    picture = httpx.post(f"{casting['endpoint']['url']}/explain", files={"file": path.read_bytes()}, timeout=60)
    assert picture.status_code == 200
    assert picture.headers["content-type"] == "image/png"


def test_the_best_of_a_grid_is_trained_and_judged_on_test(machine):
    quick = ("training.epochs=1", "training.image_size=32", "tuning.grid=[{filters: 8}, {filters: 4, kernel: 5}]")
    searched = run(machine, "casting-cnn", "--pipeline", "tuning", settings=quick)
    assert "--tuned" in searched["stdout"]
    tuned = run(machine, "casting-cnn", "--tuned", settings=quick)
    assert 0 <= tuned["metrics"]["balanced_accuracy"] <= 1
    assert tuned["model"]["version"] == "1"


def test_a_lot_without_labels_is_answered_in_a_batch(machine, tmp_path):
    run(machine, "faces", settings=("training.epochs=1", "training.image_size=32", "training.filters=8"))
    # ZenML remembers what was in the artifact store; a run after its deletion must read the images anew.
    shutil.rmtree(machine.folder / "home" / "artifacts")
    batch = ("--pipeline", "batch_inference", "--output", str(tmp_path))
    run(machine, "faces", *batch)
    (table,) = tmp_path.rglob("predictions.csv")
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 240
    assert all(row["key"].startswith("s3/") and not row["error"] for row in rows)
    assert {row["hair_length"] for row in rows} <= {"bald", "short", "long"}
