"""Test that decisions become training data: decisions, policy, data version, training, and the next version."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from visionops.review.items import RANDOM, Origin, Predicted, Reason, UseCase
from visionops.review.ports import ItemFilter
from visionops.review.service import Answer, Arrival, Review
from visionops.review.states import Actor, State, Verdict
from visionops.review_store.opening import open_review
from visionops.tasks.labelling import LabelScheme, Question

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
CASTING = SHARED / "casting"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is absent"),
    pytest.mark.skipif(not os.environ.get("VISIONOPS_WHOLE"), reason="takes minutes: make pipelines"),
]

NAME = "reviewed"
CLASSES = {"ok_front": "ok", "def_front": "defective"}
SETTINGS = (
    f"name={NAME}",
    f"data.source.path={CASTING}",
    "data.additions={kind: review}",
    "training.epochs=1",
    "training.image_size=32",
    "training.filters=8",
    "serving.port=0",
    "evaluation.worst_images=1",
    "evaluation.latency_images=2",
    "gate.minimum=0",
    "gate.margin=0",
    "gate.confidence=0",
    "monitoring.drift.min_images=1000",
    "monitoring.policy={new_labels: 10, min_new_labels: 10, cooldown_hours: 0, embedding: false, drift_share: 1}",
)
ANNA, CHEN = Actor("anna"), Actor("chen", is_admin=True)


def run(machine, *arguments: str) -> dict[str, Any]:
    """Run a command that must succeed and return its summary with its output."""
    summary = machine.folder / "summary.json"
    sets = [f"--set={setting}" for setting in SETTINGS]
    done = machine.run("--config", "configs/casting-cnn.yaml", "--summary", str(summary), *arguments, *sets)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-1000:]
    return json.loads(summary.read_text(encoding="utf-8")) | {"output": done.stdout + done.stderr}


@contextmanager
def reviewing(machine) -> Iterator[Review]:
    folder = machine.folder / "home" / "review"
    with open_review(str(folder / "review.db"), str(folder / "images")) as review:
        yield review


def add(review: Review, path: Path, light: float, answer: dict[str, Any], reason: str) -> str:
    """Add an image as from a closer camera in other light, with the endpoint's answer.

    Closer, because the review recognizes an image of the test split in other light and keeps it out of training.
    """
    stream = io.BytesIO()
    if light == 1:
        stream.write(path.read_bytes())
    else:
        image = Image.open(path).convert("RGB")
        width, height = image.size
        near = image.crop((width // 10, height // 10, width - width // 10, height - height // 10)).resize(image.size)
        near.point(lambda level: level * light).save(stream, "PNG")
    arrival = Arrival(
        Origin.TRAFFIC,
        reference=path.name,
        predicted=Predicted(NAME, "1", answer),
        reasons=(Reason(reason),),
    )
    key = f"add {path.name} {light}"
    return review.add(NAME, stream.getvalue(), arrival, ANNA, key=key, now=datetime.now(UTC)).item.id


def decide(review: Review, item: str, class_name: str, round_: int = 1) -> None:
    now = datetime.now(UTC)
    review.claim(item, ANNA, key=f"claim {item} {round_}", now=now)
    answer = Answer(Verdict.CORRECT, label={"class_name": class_name})
    review.decide(item, answer, ANNA, key=f"decide {item} {round_}", now=now)


def test_decisions_become_versions_and_versions_become_models(machine):
    first = run(machine)
    assert (first["review"]["number"], first["model"]["version"]) == (0, "1")
    assert f"review of {NAME}: no data version yet" in first["output"]
    images = sorted((CASTING / "test").rglob("*.jpeg"))
    for path in images[::20]:
        answered = httpx.post(f"{first['endpoint']['url']}/predict", files={"file": path.read_bytes()}, timeout=60)
        answer = answered.raise_for_status().json()

    with reviewing(machine) as review:
        question = Question(name="condition", class_names=("ok", "defective"))
        review.put_use_case(UseCase(NAME, "classification", LabelScheme(questions=(question,))))
        items = {}
        for number, path in enumerate(images[::10][:10]):
            # Selected images get wrong labels, which must not change the champion's metric.
            is_random, right = number % 2 == 0, CLASSES[path.parent.name]
            items[path] = add(review, path, 0.5, answer, RANDOM if is_random else "uncertainty")
            wrong = "ok" if right == "defective" else "defective"
            decide(review, items[path], right if is_random else wrong)
        corrected = next(iter(sorted((CASTING / "train").rglob("*.jpeg"))))
        label_error = add(review, corrected, 1, answer, "label_error")
        decide(review, label_error, "ok" if CLASSES[corrected.parent.name] == "defective" else "defective")

    seen = run(machine, "--pipeline", "monitoring")
    assert (seen["labelled"]["new_labels"], seen["labelled"]["decided"], seen["labelled"]["drawn"]) == (11, 11, 5)
    assert seen["labelled"]["performance"]["images"] <= 5
    assert "5 of 11 images in review drawn at random" in seen["labelled"]["explanation"]
    assert "11 images were labelled since, 10 or more" in seen["retraining"]["sentence"]
    trained = seen["training"]
    assert (trained["review"]["number"], trained["review"]["images"]) == (1, 11)
    assert trained["review"]["models"] == {f"{NAME} 1": 11}
    assert trained["model"]["version"] == "2"
    assert sum(trained["splits"].values()) == sum(first["splits"].values()) + 10
    assert "1 label of the data set corrected in review." in seen["output"]

    again = run(machine)
    assert (again["review"]["number"], again["model"]["version"]) == (1, "2")
    assert again["splits"] == trained["splits"]

    with reviewing(machine) as review:
        assert len(review.store.versions(NAME)) == 1
        now, item = datetime.now(UTC), items[images[10]]
        review.reopen(item, "wrong class", CHEN, key="reopen", now=now)
        decide(review, item, CLASSES[images[10].parent.name], 2)
    second = run(machine)
    assert (second["review"]["number"], second["review"]["images"]) == (2, 11)
    assert second["splits"] == trained["splits"]
    assert second["review"]["digest"] != trained["review"]["digest"]
    with reviewing(machine) as review:
        assert [version.number for version in review.store.versions(NAME)] == [1, 2]
        assert not review.store.items(ItemFilter(NAME, [State.DECIDED]))

    command = machine.folder / "visionops.py"
    command.write_text("from launch.cli import app\n\napp()\n")
    shown = machine.run("review", "history", item, program=command)
    assert shown.returncode == 0, shown.stderr
    assert "data version 1" in shown.stdout
    assert "data version 2" in shown.stdout
    assert f"{NAME} version 2" in shown.stdout
