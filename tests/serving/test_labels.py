"""The server with models that predict labels: the same routes, other answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.serving.routes.schemas import answer_model
from tests.helpers.bundles import CLASSES, encode, filled, make_label_bundle
from tests.serving.conftest import TestClient, client_of, settings_of
from tests.serving.test_app import error_of, metric, reload, send
from visionops.inference.bundle import Head
from visionops.inference.task_registry import all_tasks, served_task

RED = encode(filled((255, 0, 0)))
STATE = Head(name="state", class_names=("ok", "defective"), positive="defective", threshold=0.2)
HEADS = (STATE, Head(name="colour", class_names=("x", "y", "z")))


@pytest.fixture(scope="module")
def one_label(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_label_bundle(tmp_path_factory.mktemp("labels") / "one").folder


@pytest.fixture(scope="module")
def attributes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_label_bundle(tmp_path_factory.mktemp("labels") / "attributes", heads=HEADS).folder


@pytest.fixture
def labelling(one_label: Path) -> Iterator[TestClient]:
    with client_of(settings_of(one_label)) as client:
        yield client


def test_a_classifier_answers_one_class(labelling: TestClient):
    response = send(labelling, RED)
    assert response.status_code == 200
    body = response.json()
    assert set(body.pop("timing_ms")) == {"decode", "preprocess", "inference", "postprocess", "total"}
    assert body == {
        "model": {"name": "cells", "version": "1", "alias": "champion"},
        "image": {"width": 32, "height": 32},
        "classification": {
            "class_id": 0,
            "class_name": "red",
            "confidence": 0.99933,
            "probabilities": {"red": 0.99933, "green": 0.000335, "blue": 0.000335},
        },
    }


def test_several_attributes_are_answered_by_name(attributes: Path):
    with client_of(settings_of(attributes)) as client:
        answers = send(client, encode(filled((200, 160, 0)))).json()["attributes"]
        counts = {
            name: metric(client, f'visionops_predictions_total{{class="{name}",model="cells"}}')
            for name in ("state=defective", "colour=z")
        }
    assert {name: answer["class_name"] for name, answer in answers.items()} == {"state": "defective", "colour": "z"}
    assert 0.2 < answers["state"]["confidence"] < 0.5  # its threshold decided
    assert counts == {"state=defective": 1, "colour=z": 1}


@pytest.mark.parametrize(("query", "name"), [("conf=0.5", "confidence"), ("iou=0.5", "iou")])
def test_thresholds_of_boxes_are_refused(labelling: TestClient, query: str, name: str):
    for route in ("predict", "explain"):
        response = labelling.post(f"/{route}?{query}", files={"file": RED})
        assert (response.status_code, error_of(response)) == (422, "bad_parameter")
        assert response.json()["error"]["message"].startswith(f"{name}: a model of labels takes")
    assert metric(labelling, 'visionops_rejected_total{reason="bad_parameter"}') == 2


def test_classes_are_counted(labelling: TestClient):
    for _ in range(3):
        send(labelling, RED)
    assert metric(labelling, 'visionops_predictions_total{class="red",model="cells"}') == 3
    assert metric(labelling, 'visionops_inference_duration_seconds_count{model="cells"}') == 3


def test_model_shows_what_decides(labelling: TestClient, attributes: Path, client: TestClient):
    card = labelling.get("/model").json()
    assert card["task"] == "classification"
    assert card["classes"] == list(CLASSES)
    assert [head["name"] for head in card["heads"]] == ["class"]
    assert "thresholds" not in card
    with client_of(settings_of(attributes)) as other:
        card = other.get("/model").json()
    assert card["heads"][0] == STATE.model_dump(mode="json") | {"class_names": ["ok", "defective"]}
    assert card["classes"][0] == "state=ok"
    detector = client.get("/model").json()
    assert "heads" not in detector
    assert detector["thresholds"]["confidence"] == 0.25


def test_a_detectors_settings_do_not_stop_a_classifier(one_label: Path):
    with client_of(settings_of(one_label, confidence=0.25, iou=0.7)) as client:
        assert send(client, RED).json()["classification"]["class_name"] == "red"


def test_reload_switches_between_tasks(client: TestClient, bundle: Path, one_label: Path, attributes: Path, red_cell):
    assert "detections" in send(client, red_cell).json()
    for folder, key in ((one_label, "classification"), (attributes, "attributes"), (bundle, "detections")):
        response = reload(client, folder)
        assert response.status_code == 200, response.text
        assert key in send(client, red_cell).json()


def test_a_classifier_without_sense_fails_its_smoke_test(client: TestClient, tmp_path: Path, red_cell: bytes):
    folder = make_label_bundle(tmp_path / "bad", gain=float("nan")).folder
    response = reload(client, folder)
    assert (response.status_code, error_of(response)) == (409, "smoke_test_failed")
    assert "probabilities are not finite numbers" in response.json()["error"]["message"]
    assert "detections" in send(client, red_cell).json()


def test_a_graph_that_contradicts_its_heads_is_refused(client: TestClient, tmp_path: Path):
    response = reload(client, make_label_bundle(tmp_path / "bad", graph_classes=5).folder)
    assert (response.status_code, error_of(response)) == (422, "bad_bundle")


def test_the_schema_shows_the_answer_of_every_task(labelling: TestClient):
    schema = labelling.get("/openapi.json").json()
    content = schema["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"]
    names = [choice["$ref"].rpartition("/")[2] for choice in content["schema"]["anyOf"]]
    assert names == ["DetectionAnswer", "ClassificationAnswer", "AttributesAnswer"]
    assert set(content["examples"]) == {"detection", "classification", "attributes"}
    models = map(answer_model, all_tasks())
    for model, example in zip(models, content["examples"].values(), strict=True):
        assert model.model_validate(example["value"]).model_dump(mode="json") == example["value"]


def test_what_is_answered_fits_the_schema(client: TestClient, labelling: TestClient, attributes: Path, red_cell: bytes):
    answer_model(served_task("detection")).model_validate(send(client, red_cell).json())
    answer_model(served_task("classification")).model_validate(send(labelling, RED).json())
    with client_of(settings_of(attributes)) as other:
        answer_model(served_task("attributes")).model_validate(send(other, RED).json())
