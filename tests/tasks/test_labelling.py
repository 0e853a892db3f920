"""People's labels of every task: accepted and refused labels, and their conversion to and from a data set."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.tasks.test_toy_task import BrightnessTask
from visionops.data.dataset import Dataset
from visionops.data.layers import Attribute
from visionops.errors import LabelError, TaskError
from visionops.inference.task_registry import register, unregister
from visionops.tasks.labelling import LabelScheme, Question
from visionops.tasks.spec import TaskSpec, task_for

BOXES = LabelScheme(class_names=("scratch", "dent"))
CLASSES = LabelScheme(questions=(Question(name="label", class_names=("ok", "defective")),))
FACE = LabelScheme(
    questions=(
        Question(name="hat", class_names=("no", "yes")),
        Question(name="mood", class_names=("glad", "sad", "both")),
    )
)
WIDTH, HEIGHT = 100, 50


def check(task: str, label, scheme: LabelScheme):
    return task_for(task).check_label(label, scheme, WIDTH, HEIGHT)


def box(*corners, name: str = "dent"):
    return {"boxes": [{"class_name": name, "box": list(corners)}]}


def test_a_box_within_rounding_of_the_edge_is_cut_there():
    assert check("detection", box(-0.4, 0, 100.5, 50.2), BOXES) == box(0.0, 0.0, 100.0, 50.0)
    assert check("detection", {"boxes": []}, BOXES) == {"boxes": []}


@pytest.mark.parametrize(
    ("task", "scheme", "label", "words"),
    [
        ("detection", BOXES, box(0, 0, 101, 50), "boxes.0: .* exceeds the image of 100 x 50 pixels"),
        ("detection", BOXES, box(-1, 0, 10, 50), "exceeds the image"),
        ("detection", BOXES, box(5, 0, 5, 50), "has no area; expected x1 < x2"),
        ("detection", BOXES, box(9, 0, 5, 50), "has no area"),
        ("detection", BOXES, box(100.2, 0, 100.4, 50), "has no area"),
        ("detection", BOXES, box(0, 0, float("nan"), 5), "boxes.0.box.2: expected a finite number"),
        ("detection", BOXES, box(0, 0, float("inf"), 5), "finite number"),
        ("detection", BOXES, box(0, 0, 5), "expected at least 4 values"),
        ("detection", BOXES, box(0, 0, "5", 5), "expected a number"),
        ("detection", BOXES, box(0, 0, True, 5), "expected a number"),
        (
            "detection",
            BOXES,
            box(0, 0, 5, 5, name="rust"),
            "boxes.0: unknown class 'rust'; expected one of scratch, dent",
        ),
        ("detection", BOXES, box(0, 0, 5, 5, name="x" * 10**6), "unknown class 'x{100}';"),
        ("detection", BOXES, {"boxes": [{"class_name": "dent", "box": [0, 0, 5, 5], "id": 1}]}, "unknown key"),
        (
            "detection",
            BOXES,
            {"boxes": [{"class_name": "dent", "box": [0, 0, 1, 1]}] * 10_001},
            "expected at most 10000 values",
        ),
        ("detection", BOXES, {}, "'boxes' is missing"),
        ("detection", BOXES, {"class_name": "dent"}, "unknown key 'class_name'"),
        ("classification", CLASSES, {"class_name": "rusty"}, "label: unknown class 'rusty'; expected one of ok, def"),
        ("classification", CLASSES, {"class_name": None}, "expected a text"),
        ("classification", CLASSES, {"class_name": "'; DROP TABLE review_items; --"}, "unknown class"),
        ("attributes", FACE, {"attributes": {"hat": "maybe"}}, "hat: unknown class 'maybe'"),
        ("attributes", FACE, {"attributes": {"scarf": "yes"}}, "unknown attribute 'scarf'; expected one of hat, mood"),
        ("attributes", FACE, {"attributes": {"hat": None}}, "attributes: is empty"),
        ("attributes", FACE, {"attributes": {"hat": 1}}, "expected a text"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(task, scheme, label, words):
    with pytest.raises(LabelError, match=words) as caught:
        check(task, label, scheme)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 2100


@pytest.mark.parametrize(
    ("task", "scheme"),
    [("detection", CLASSES), ("detection", LabelScheme()), ("classification", BOXES), ("classification", FACE),
     ("attributes", LabelScheme()), ("attributes", BOXES)],
)  # fmt: skip
def test_a_scheme_that_the_task_cannot_answer_by_is_refused(task, scheme):
    with pytest.raises(LabelError, match=f"task {task}: .*add the classes"):
        task_for(task).check_scheme(scheme)


def test_the_label_of_an_example_answer_fits():
    for name, scheme in (("detection", BOXES), ("classification", CLASSES)):
        task = task_for(name)
        label = task.label_of(task.answer.model_validate(task.example).model_dump(mode="json"))
        names = LabelScheme(class_names=("scratches",)) if name == "detection" else scheme
        task.check_scheme(names)
        assert task.check_label(label, names, 640, 640) == label
    task = task_for("attributes")
    scheme = LabelScheme(questions=(Question(name="surface", class_names=("ok", "defective")),))
    assert task.check_label(task.label_of(task.example), scheme, 9, 9) == {"attributes": {"surface": "defective"}}


corner = st.floats(0, 40, allow_subnormal=False)
extent = st.floats(0.5, 9, allow_subnormal=False)
boxes = st.builds(
    lambda name, x, y, w, h: {"class_name": name, "box": [x, y, x + w, y + h]},
    st.sampled_from(BOXES.class_names), corner, corner, extent, extent,
)  # fmt: skip
LABELS = {
    "detection": (BOXES, st.fixed_dictionaries({"boxes": st.lists(boxes, max_size=4)})),
    "classification": (CLASSES, st.fixed_dictionaries({"class_name": st.sampled_from(("ok", "defective"))})),
    "attributes": (
        FACE,
        st.fixed_dictionaries(
            {"hat": st.sampled_from(("no", "yes")), "mood": st.sampled_from((None, "glad", "sad", "both"))}
        ).map(lambda answers: {"attributes": answers}),
    ),
}


@pytest.mark.parametrize("name", LABELS)
@given(data=st.data())
def test_labels_go_into_a_data_set_and_come_out_the_same(name, data):
    scheme, strategy = LABELS[name]
    task, given_ = task_for(name), data.draw(st.lists(strategy, min_size=1, max_size=4))
    labels = [task.check_label(label, scheme, WIDTH, HEIGHT) for label in given_]
    assert labels == given_
    layer = task.layer_of(labels, scheme)
    dataset = Dataset.from_columns("x", scheme.class_names, {"key": [str(n) for n in range(len(labels))]}, {})
    dataset = dataset.with_layer(task.layer, layer)
    assert task.labels_in(dataset) == labels


def test_an_image_without_a_class_has_no_label():
    attributes = [Attribute("label", ("ok", "defective"))]
    dataset = Dataset.from_columns(
        "x", (), {"key": ["a", "b"]}, {}, attributes=attributes, labels={"label": pa.array([None, 1], pa.int32())}
    )
    assert task_for("classification").labels_in(dataset) == [None, {"class_name": "defective"}]
    assert task_for("attributes").labels_in(dataset) == [None, {"attributes": {"label": "defective"}}]
    assert dataset.label_array().tolist() == np.array([[-1], [1]]).tolist()


@pytest.mark.parametrize(
    ("later", "is_extended"),
    [
        (BOXES, True),
        (LabelScheme(class_names=("scratch", "dent", "rust")), True),
        (LabelScheme(class_names=("rust", "scratch", "dent")), False),
        (LabelScheme(class_names=("scratch",)), False),
    ],
)
def test_a_scheme_is_extended_at_its_end_alone(later, is_extended):
    assert later.extends(BOXES) is is_extended
    assert FACE.extends(LabelScheme(questions=FACE.questions[:1]))
    assert not CLASSES.extends(FACE)


def test_a_scheme_names_nothing_twice_and_nothing_empty():
    with pytest.raises(ValidationError, match="names 'dent' twice"):
        LabelScheme(class_names=("dent", "dent"))
    with pytest.raises(ValidationError, match="at least 1 character"):
        LabelScheme(class_names=("",))


class Unreviewed(BrightnessTask):
    name = "unreviewed"
    label_form = None
    check_scheme = TaskSpec.check_scheme


def test_a_task_without_labels_to_review_says_so():
    task = Unreviewed()
    register(task)
    try:
        with pytest.raises(TaskError, match="task 'unreviewed': its labels cannot be reviewed; give its TaskSpec"):
            task_for("unreviewed").check_scheme(LabelScheme())
    finally:
        unregister("unreviewed")
