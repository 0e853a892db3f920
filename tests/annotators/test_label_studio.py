"""Labels as Label Studio has them, there and back; its configuration, and what is refused."""

from __future__ import annotations

import copy
import io
import json
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.annotators.made import CASES, DETECTED, FACES, OTHER, add
from tests.helpers.review import CASTING, STEEL
from visionops.data.formats import read_dataset
from visionops.data.settings import DataConfig, FolderSource, Format
from visionops.errors import LabelError
from visionops.inference.image import decode_image
from visionops.review.annotation.same import same_label
from visionops.review.errors import Invalid, Unavailable
from visionops.review.items import UseCase
from visionops.review.label_studio.api import LabelStudioApi
from visionops.review.label_studio.config import REASON, REJECT, covers, labelling_config, question_tags
from visionops.review.label_studio.pictures import for_browsers
from visionops.review.label_studio.results import label_from, prediction_of, rejection_from, results_of
from visionops.review.label_studio.tool import project_title
from visionops.review.service import Review
from visionops.tasks.labelling import LabelScheme, Question
from visionops.tasks.spec import task_for

SIDE = st.integers(1, 20_000)
NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=20).filter(
    lambda name: name == name.strip() and not name.startswith("$")
)


@st.composite
def drawn(draw):
    """A label with boxes, and the size of its image."""
    width, height = draw(SIDE), draw(SIDE)

    def edges(side: int) -> list[float]:
        share = st.floats(0, 1, allow_nan=False)
        return sorted([draw(share) * side, draw(share) * side])

    boxes = []
    for _ in range(draw(st.integers(0, 4))):
        (x1, x2), (y1, y2) = edges(width), edges(height)
        boxes.append({"class_name": draw(st.sampled_from(("scratch", "dent"))), "box": [x1, y1, x2, y2]})
    return {"boxes": boxes}, width, height


@given(drawn())
def test_boxes_come_back_within_a_millionth_of_the_image(made):
    label, width, height = made
    # Through JSON, as it travels.
    results = json.loads(json.dumps(results_of(label, STEEL, width, height)))
    back = label_from(results, STEEL, width, height)
    assert same_label(back, label, width, height)
    for one, other in zip(back["boxes"], label["boxes"], strict=True):
        assert np.abs(np.subtract(one["box"], other["box"])).max() <= 1e-9 * max(width, height)


@given(drawn(), st.randoms(use_true_random=False))
def test_the_order_of_boxes_does_not_count_and_a_moved_one_does(made, random):
    label, width, height = made
    other = copy.deepcopy(label)
    random.shuffle(other["boxes"])
    assert same_label(label, other, width, height)
    if other["boxes"]:
        other["boxes"][0]["box"][0] += 3e-6 * width
        alike = [same_label({"boxes": [one]}, {"boxes": [other["boxes"][0]]}, width, height) for one in label["boxes"]]
        if not any(alike):
            assert not same_label(label, other, width, height)
        assert not same_label(label, {"boxes": other["boxes"][1:]}, width, height)


@given(st.lists(NAMES, min_size=2, max_size=4, unique=True), st.data())
def test_classes_of_any_name_come_back(names, data):
    questions = tuple(Question(name=name, class_names=tuple(names)) for name in names)
    case = UseCase("x", "attributes", LabelScheme(questions=questions))
    answers = {name: data.draw(st.sampled_from([None, *names])) for name in names}
    assert label_from(results_of({"attributes": answers}, case, 9, 9), case, 9, 9) == {"attributes": answers}
    config = labelling_config(case)
    assert covers(config, config)
    tags = {tag.get("name"): [one.get("value") for one in tag] for tag in ET.fromstring(config).iter("Choices")}
    assert [tags[tag] for tag in question_tags(case.scheme)] == [names] * len(names)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.task)
def test_a_prediction_is_the_models_answer_with_its_version(review: Review, case):
    item = add(review, case.name, 1)
    found = prediction_of(item, case)
    label = task_for(case.task).label_of(DETECTED[case.name])
    assert found["model_version"] == f"{case.name} 3"
    assert found["score"] == {"steel": 0.5, "casting": 0.8, "faces": 0.6}[case.name]
    assert same_label(label_from(found["result"], case, 64, 48), label, 64, 48)
    if case is STEEL:
        assert [region["score"] for region in found["result"]] == [0.75, 0.5]


def test_a_label_that_came_with_the_image_is_a_prediction_too(review: Review):
    item = add(review, "casting", 1, predicted=None, label=OTHER["casting"])
    assert prediction_of(item, CASTING)["model_version"] == "proposed"
    assert prediction_of(add(review, "casting", 2, predicted=None), CASTING) is None


def region(**value):
    whole = {"x": 0, "y": 0, "width": 10, "height": 10, "rotation": 0, "rectanglelabels": ["dent"]} | value
    return {"from_name": "label", "type": "rectanglelabels", "value": whole}


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (region(rotation=30), "box 1: is rotated by 30 degrees; draw it upright"),
        (region(rectanglelabels=[]), "box 1: expected exactly one class; choose one"),
        (region(rectanglelabels=["dent", "scratch"]), "expected exactly one class"),
        (region(x="left"), "box 1: is malformed"),
        (region(width=float("nan")), "box 1: is malformed"),
        ({"from_name": "label", "value": None}, "expected exactly one class"),
        (region() | {"image_rotation": 90}, "the image was rotated in Label Studio; rotate it back"),
    ],
)
def test_a_box_that_is_none_of_ours_is_refused(result, message):
    with pytest.raises(LabelError, match=message):
        label_from([result], STEEL, 64, 48)


def test_questions_may_stay_unanswered_where_the_task_allows_it():
    assert label_from([], FACES, 9, 9) == {"attributes": dict.fromkeys(q.name for q in FACES.scheme.questions)}
    with pytest.raises(LabelError, match="label: is not answered; choose a class, or reject the image"):
        label_from([], CASTING, 9, 9)
    two = {"from_name": "label", "value": {"choices": ["ok", "defective"]}}
    with pytest.raises(LabelError, match="label: expected at most one answer"):
        label_from([two], CASTING, 9, 9)


def test_an_image_is_rejected_by_a_choice_with_a_reason():
    choice = {"from_name": REJECT, "value": {"choices": ["no training data"]}}
    assert rejection_from([choice]) == "rejected in Label Studio"
    assert rejection_from([choice, {"from_name": REASON, "value": {"text": ["too", " dark\n"]}}]) == "too dark"
    assert rejection_from([{"from_name": REASON, "value": {"text": ["hm"]}}]) == ""


def test_a_configuration_may_have_more_than_ours():
    config = labelling_config(STEEL)
    assert covers(config.replace('value="dent"', 'hotkey="d" value="dent" background="red"'), config)
    assert not covers(config.replace("dent", "rust"), config)
    assert not covers("<View>", config)
    more = UseCase("steel", "detection", LabelScheme(class_names=("scratch", "dent", "rust")))
    assert not covers(config, labelling_config(more))
    assert 'canRotate="false"' in config


@pytest.mark.parametrize("name", ["$name", " dent", "dent "])
def test_a_class_that_label_studio_would_change_is_refused(name):
    case = UseCase("steel", "detection", LabelScheme(class_names=(name,)))
    with pytest.raises(Invalid, match="rename it"):
        labelling_config(case)


def test_titles_are_of_fifty_characters_and_apart():
    assert project_title("steel") == "VisionOps steel"
    long = {project_title("x" * 100 + end) for end in "ab"}
    assert len(long) == 2
    assert {len(title) for title in long} == {50}


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_browsers_get_upright_pixels(orientation: int):
    picture = Image.fromarray(np.arange(60 * 40 * 3, dtype=np.uint8).reshape(40, 60, 3))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    picture.save(stream, "JPEG", exif=exif)
    data = stream.getvalue()
    shown, suffix = for_browsers(data)
    if orientation == 1:
        assert (shown, suffix) == (data, ".jpg")
    else:
        assert suffix == ".png"
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(shown))), decode_image(data))


def test_a_tiff_becomes_what_browsers_show():
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(stream, "TIFF")
    shown, suffix = for_browsers(stream.getvalue())
    assert (suffix, Image.open(io.BytesIO(shown)).size) == (".png", (8, 6))


@pytest.mark.parametrize(
    ("url", "token", "message"),
    [
        ("label-studio:8080", "t", "is not an http:// or https:// address; correct instance_url"),
        ("http://me:secret@host", "t", "the address holds a login"),
        ("http://host", "", "the token is missing; set VISIONOPS_LABEL_STUDIO_TOKEN"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_at_once(url, token, message):
    with pytest.raises(Invalid, match=message) as caught:
        LabelStudioApi(url, token)
    assert "secret" not in str(caught.value)


def test_a_server_that_does_not_answer_is_one_line():
    with pytest.raises(Unavailable, match=r"Label Studio http://127.0.0.1:9: does not answer \(ConnectionError\)"):
        LabelStudioApi("http://127.0.0.1:9", "t").get("/api/projects")


def test_an_export_of_label_studio_is_read_with_the_same_boxes(tmp_path):
    label = OTHER["steel"]
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    task = {
        "id": 1,
        "data": {"image": "/data/upload/1/a.png"},
        "annotations": [{"id": 1, "result": results_of(label, STEEL, 64, 48)}],
    }
    (tmp_path / "export.json").write_text(json.dumps([task]))
    data = DataConfig(source=FolderSource(kind="folder", path=tmp_path), format=Format.LABEL_STUDIO)
    back = read_dataset(tmp_path, data, "x", task_for("detection").fit_dataset)
    (found,) = task_for("detection").labels_in(back)
    assert found["boxes"][0]["class_name"] == "scratch"
    assert found["boxes"][0]["box"] == pytest.approx(label["boxes"][0]["box"], abs=1e-4)
