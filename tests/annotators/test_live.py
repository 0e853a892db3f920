"""A real Label Studio: items there with pre-annotations, what people do by its API, and decisions back."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from tests.annotators.made import CASES, DETECTED, NAMES, OTHER, add
from tests.annotators.server import EMAIL, Server
from tests.helpers.review import ANNA, CASTING, NOW, STEEL
from visionops.inference.image import decode_image
from visionops.review.annotation.exchange import pull, push
from visionops.review.annotation.same import TOLERANCE
from visionops.review.errors import Unavailable
from visionops.review.items import Origin, UseCase
from visionops.review.label_studio.results import results_of
from visionops.review.label_studio.tool import LabelStudio, project_title
from visionops.review.service import Arrival, Review
from visionops.review.states import State, Verdict
from visionops.tasks.labelling import LabelScheme
from visionops.tasks.spec import task_for

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def tasks_of(server: Server, case: UseCase) -> dict[str, dict[str, Any]]:
    """Tasks by the id of their item, as Label Studio shows them one by one."""
    (project,) = [p for p in server.call("GET", "/api/projects/")["results"] if p["title"] == project_title(case.name)]
    listed = server.call("GET", "/api/tasks/", params={"project": project["id"], "page_size": 100})["tasks"]
    tasks = [server.call("GET", f"/api/tasks/{task['id']}/") for task in listed]
    return {task["data"]["item"]: task for task in tasks}


def annotate(server: Server, task: dict[str, Any], result: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return server.call("POST", f"/api/tasks/{task['id']}/annotations/", json={"result": result, **more})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.task)
def test_there_and_back(server: Server, tool: LabelStudio, review: Review, case: UseCase):
    items = [add(review, case.name, number, name) for number, name in enumerate(NAMES)]
    assert push(review, tool, case.name).new == len(items)
    found = push(review, tool, case.name)
    assert (found.new, found.present) == (0, len(items))

    tasks = tasks_of(server, case)
    assert set(tasks) == {item.id for item in items}
    predicted = task_for(case.task).label_of(DETECTED[case.name])
    for item in items:
        task = tasks[item.id]
        assert task["data"]["name"] == item.first.name
        assert task["data"]["sha256"] == item.image.sha256
        assert task["meta"]["item"] == item.id
        (prediction,) = task["predictions"]
        assert prediction["model_version"] == f"{case.name} 3"
        assert prediction["score"] == pytest.approx({"steel": 0.5, "casting": 0.8, "faces": 0.6}[case.name])
        shown = requests.get(
            f"{server.url}{task['data']['image']}", headers={"Authorization": f"Token {server.legacy}"}, timeout=60
        )
        assert shown.content == review.images.read(item.image.sha256)
    project = server.call("GET", f"/api/projects/{task['project']}/")
    assert project["model_version"] == f"{case.name} 3"

    same, changed, rejected, skipped, _ = items
    annotate(server, tasks[same.id], tasks[same.id]["predictions"][0]["result"])
    other = results_of(OTHER[case.name], case, 64, 48)
    # Sent as the prediction, then changed: as a person corrects it.
    made = annotate(server, tasks[changed.id], tasks[changed.id]["predictions"][0]["result"])
    server.call("PATCH", f"/api/annotations/{made['id']}/", json={"result": other})
    blurred = [
        {
            "from_name": "visionops_reject",
            "to_name": "image",
            "type": "choices",
            "value": {"choices": ["no training data"]},
        },
        {"from_name": "visionops_reason", "to_name": "image", "type": "textarea", "value": {"text": ["blurred"]}},
    ]
    annotate(server, tasks[rejected.id], blurred)
    annotate(server, tasks[skipped.id], [], was_cancelled=True)

    done = pull(review, tool, case.name, NOW)
    assert dataclasses.astuple(done) == (1, 1, 1, 0, (), ())
    kept = {item.id: review.store.decisions(item.id) for item in items}
    assert [one.verdict for decisions in kept.values() for one in decisions] == [
        Verdict.CONFIRM,
        Verdict.CORRECT,
        Verdict.REJECT,
    ]
    assert {one.reviewer for decisions in kept.values() for one in decisions} == {EMAIL}
    assert kept[rejected.id][0].reason == "blurred"
    assert kept[same.id][0].label == predicted
    label = kept[changed.id][0].label
    assert label is not None
    if "boxes" in label:
        worst = 0.0
        for one, wanted in zip(label["boxes"], OTHER[case.name]["boxes"], strict=True):
            assert one["class_name"] == wanted["class_name"]
            worst = max(worst, *(np.abs(np.subtract(one["box"], wanted["box"])) / (64, 48, 64, 48)))
        print(f"largest difference of an edge: {worst:.1e} of the image's side")
        assert worst <= TOLERANCE
    else:
        assert label == OTHER[case.name]
    assert review.store.item(skipped.id).status.state is State.PENDING

    before = {item.id: review.store.history(item.id) for item in items}
    assert dataclasses.astuple(pull(review, tool, case.name, NOW)) == (0, 0, 0, 3, (), ())
    assert before == {item.id: review.store.history(item.id) for item in items}


def test_a_rotated_box_and_a_later_change_are_said(server: Server, tool: LabelStudio, review: Review):
    turned, later = add(review, "steel", 1), add(review, "steel", 2)
    push(review, tool, "steel")
    tasks = tasks_of(server, STEEL)
    result = results_of(OTHER["steel"], STEEL, 64, 48)
    made = annotate(server, tasks[later.id], result)
    result[0]["value"]["rotation"] = 15
    annotate(server, tasks[turned.id], result)
    found = pull(review, tool, "steel", NOW)
    assert found.corrected == 1
    assert "box 1: is rotated by 15 degrees; draw it upright" in found.refused[0]
    server.call("PATCH", f"/api/annotations/{made['id']}/", json={"result": []})
    found = pull(review, tool, "steel", NOW)
    assert f"item {later.id}: {EMAIL} decided it" in found.conflicts[0]


def test_a_turned_photograph_is_shown_upright(server: Server, tool: LabelStudio, review: Review):
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.effect_noise((64, 48), 50).convert("RGB").save(stream, "JPEG", exif=exif)
    item = review.add("steel", stream.getvalue(), Arrival(Origin.UPLOAD), ANNA, key="a", now=NOW).item
    assert (item.image.width, item.image.height) == (48, 64)
    push(review, tool, "steel")
    task = tasks_of(server, STEEL)[item.id]
    headers = {"Authorization": f"Token {server.legacy}"}
    shown = requests.get(f"{server.url}{task['data']['image']}", headers=headers, timeout=60).content
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(shown))), decode_image(stream.getvalue()))


def test_classes_are_added_and_what_people_set_stays(server: Server, tool: LabelStudio, review: Review):
    add(review, "casting", 1)
    push(review, tool, "casting")
    (project,) = server.call("GET", "/api/projects/")["results"]
    own = project["label_config"].replace('value="ok"', 'value="ok" hotkey="o"')
    server.call("PATCH", f"/api/projects/{project['id']}/", json={"label_config": own})
    add(review, "casting", 2)
    push(review, tool, "casting")
    assert server.call("GET", f"/api/projects/{project['id']}/")["label_config"] == own
    question = CASTING.scheme.questions[0]
    more = question.model_copy(update={"class_names": (*question.class_names, "odd \"size\" & <ü> '%'")})
    review.put_use_case(UseCase("casting", "classification", LabelScheme(questions=(more,))))
    add(review, "casting", 3)
    push(review, tool, "casting")
    assert "odd &quot;size&quot;" in server.call("GET", f"/api/projects/{project['id']}/")["label_config"]
    assert len(server.call("GET", "/api/projects/")["results"]) == 1


def test_either_kind_of_token_is_accepted_and_a_wrong_one_is_one_line(server: Server):
    print(f"Label Studio {server.version}")
    for token in (server.personal, server.legacy):
        assert LabelStudio(server.url, token).check() == EMAIL
    head, _, tail = server.personal.rpartition(".")
    for token in ("f" * 40, f"{head}.{tail[::-1]}"):
        with pytest.raises(
            Unavailable, match=r"refuses the token \(401\); copy a token from Account & Settings"
        ) as said:
            LabelStudio(server.url, token).check()
        assert "\n" not in str(said.value)
        assert token not in str(said.value)


def test_an_access_token_that_expired_is_bought_again(tool: LabelStudio):
    assert tool.check() == EMAIL
    tool.api._access = tool.api._access[:-4] + "AAAA"
    assert tool.check() == EMAIL
