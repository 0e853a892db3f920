"""Labels that a model contradicts, for every task."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tasks.test_labelling import BOXES, FACE
from visionops.errors import TaskError
from visionops.tasks.labelling import LabelScheme, Question
from visionops.tasks.spec import TaskSpec, task_for

SCHEME = LabelScheme(questions=(Question(name="label", class_names=("ok", "scratched", "bent")),))


def boxes(*found):
    return {"boxes": [{"class_name": name, "box": list(corners)} for name, *corners in found]}


def detections(*found):
    return {
        "detections": [
            {"class_id": 0, "class_name": name, "confidence": confidence, "box": list(corners)}
            for confidence, name, *corners in found
        ]
    }


def answer(name: str, share: float, names=("ok", "scratched", "bent")):
    rest = (1 - share) / (len(names) - 1)
    return {"class_id": 0, "class_name": name, "confidence": share, "probabilities": {
        one: share if one == name else rest for one in names
    }}  # fmt: skip


def test_flipped_classes_are_found_and_nothing_else():
    random = np.random.default_rng(5)
    truth = random.choice(["ok", "ok", "ok", "scratched", "bent"], 300).tolist()
    labels = list(truth)
    flipped = set(random.choice(300, 15, replace=False).tolist())
    for row in flipped:
        labels[row] = "bent" if truth[row] != "bent" else "ok"
    answers = [{"classification": answer(name, float(random.uniform(0.6, 0.99)))} for name in truth]
    found = task_for("classification").suspects([{"class_name": name} for name in labels], answers, SCHEME)
    assert set(found) == flipped
    row = min(found)
    share = answers[row]["classification"]["probabilities"]
    assert found[row].quality == pytest.approx(share[labels[row]])
    assert found[row].text.startswith(f"labelled {labels[row]} (")
    assert f"the model says {truth[row]} (" in found[row].text


def test_the_worst_attribute_counts_and_unknown_ones_do_not():
    labels = [{"attributes": {"hat": "yes", "mood": "sad"}} for _ in range(20)]
    labels += [{"attributes": {"hat": "no", "mood": "glad"}} for _ in range(20)]
    answers = [
        {"attributes": {"hat": answer(one["attributes"]["hat"], 0.9, ("no", "yes")),
                        "mood": answer(one["attributes"]["mood"], 0.9, ("glad", "sad", "both"))}}
        for one in labels
    ]  # fmt: skip
    answers[3]["attributes"]["hat"] = answer("no", 0.97, ("no", "yes"))
    labels[4] = {"attributes": {"hat": None, "mood": "sad"}}
    answers[4]["attributes"]["hat"] = answer("no", 0.97, ("no", "yes"))
    found = task_for("attributes").suspects(labels, answers, FACE)
    assert set(found) == {3}
    assert found[3].text == "hat labelled yes (0.03), the model says no (0.97)"


def test_boxes_that_are_missing_of_another_class_or_in_doubt():
    corners = (10, 10, 50, 40)
    labels = [boxes(("dent", *corners)), boxes(("dent", *corners)), boxes(), boxes(), boxes(("dent", *corners))]
    answers = [
        detections((0.9, "dent", *corners)),
        detections((0.8, "scratch", *corners)),
        detections((0.7, "dent", *corners), (0.6, "dent", 60, 10, 90, 40)),
        detections((0.4, "dent", *corners)),
        detections(),
    ]
    found = task_for("detection").suspects(labels, answers, BOXES)
    assert {row: round(one.quality, 6) for row, one in found.items()} == {1: 0.2, 2: 0.3, 4: 0.5}
    assert found[1].text == "labelled dent, the model says scratch (0.80)"
    assert found[2].text == "the model finds dent (0.70), which is not in the label"
    assert found[4].text == "labelled dent, which the model does not find"


def test_a_task_that_cannot_say_says_so():
    with pytest.raises(TaskError, match="task 'detection': its labels cannot be audited; give its TaskSpec"):
        TaskSpec.suspects(task_for("detection"), [], [], BOXES)
