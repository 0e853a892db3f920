"""Test data for comparing models that do not know the same classes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.bundles import CELL, CLASSES, encode, make_bundle, make_label_bundle, picture
from visionops.config import Config
from visionops.data.dataset import Dataset
from visionops.data.layers import Attribute
from visionops.data.settings import DataConfig, FolderSource
from visionops.errors import MetricError
from visionops.inference.bundle import Head
from visionops.tasks.comparison import comparison_set
from visionops.tasks.spec import task_for

STATE = Head(name="state", class_names=CLASSES)
SIZE = Head(name="size", class_names=("s", "l"))


def boxes_dataset(class_names=("blue", "crack", "red"), splits=("test", "test", "test", "train")) -> Dataset:
    """Return an image of blue and crack, one of crack, an empty one, and one for training."""
    names = ["blue", "crack", "crack", "red"]
    boxes = {"image": [0, 0, 1, 3], "class_id": [class_names.index(name) for name in names]}
    boxes |= {"x1": [0, 1, 2, 3], "y1": [0] * 4, "x2": [9] * 4, "y2": [9] * 4}
    images = {"key": ["a", "b", "c", "d"], "sha256": [f"{i:064x}" for i in range(4)], "split": list(splits)}
    return Dataset.from_columns("case", class_names, images, boxes)


def labels_dataset(labels, attributes) -> Dataset:
    count = len(next(iter(labels.values())))
    images = {"key": [f"{i}.png" for i in range(count)], "split": ["test"] * count}
    return Dataset.from_columns("case", [], images, {}, attributes=attributes, labels=labels)


def test_what_every_model_knows_is_compared_whole(tmp_path):
    dataset = boxes_dataset(("blue", "crack", "red"))
    card = make_bundle(tmp_path / "bundle", class_names=("red", "crack", "blue", "rust")).card
    comparison = comparison_set(dataset, [card])
    assert comparison.is_whole
    assert (comparison.test.num_images, comparison.total, comparison.explain()) == (3, 3, "")


def test_boxes_of_a_class_that_one_model_does_not_know_are_dropped_and_images_stay(tmp_path):
    dataset = boxes_dataset()
    knows = make_bundle(tmp_path / "knows", class_names=("red", "crack", "blue")).card
    old = make_bundle(tmp_path / "old", class_names=("red", "blue")).card
    comparison = comparison_set(dataset, [knows, old])
    test = comparison.test
    assert (test.class_names, comparison.new) == (("blue", "red"), ("crack",))
    assert test.column("key") == ["a", "b", "c"]
    assert [b.class_ids.tolist() for b in test.boxes_by_image()] == [[0], [], []]
    assert comparison.explain() == "on 3 of 3 test images, without 2 boxes of crack"
    assert comparison.dataset_for(old) is comparison.dataset_for(knows) is test


def test_images_that_a_model_was_trained_or_selected_on_are_left_out(tmp_path):
    card = make_bundle(tmp_path / "bundle", class_names=("red", "crack", "blue")).card
    comparison = comparison_set(boxes_dataset(), [card], np.array([True, False, True]))
    assert comparison.test.column("key") == ["a", "c"]
    assert comparison.explain() == (
        "on 2 of 3 test images, without 1 image that is or looks like one a model was trained or selected on"
    )
    assert comparison_set(boxes_dataset(), [card], np.ones(3, bool)).is_whole
    with pytest.raises(MetricError, match="no test image is left, without 3 images that are or look"):
        comparison_set(boxes_dataset(), [card], np.zeros(3, bool))


def test_images_of_a_class_that_the_champion_cannot_answer_are_left_out(tmp_path):
    attributes = [Attribute("surface", ("violet", "green", "red"))]  # one question on each side, with any name
    dataset = labels_dataset({"surface": [0, 1, 2, None, 0]}, attributes)
    card = make_label_bundle(tmp_path / "bundle").card
    comparison = comparison_set(dataset, [card])
    assert comparison.test.column("key") == ["1.png", "2.png", "3.png"]
    assert comparison.test.attributes == (Attribute("surface", ("green", "red")),)
    assert comparison.test.label_array()[:, 0].tolist() == [0, 1, -1]
    assert comparison.explain() == "on 3 of 5 test images, without 2 labels of violet"


def test_a_question_that_the_champion_does_not_answer_is_left_out_and_counts_for_nobody(tmp_path):
    old = make_label_bundle(tmp_path / "old", heads=(STATE,))
    new = make_label_bundle(tmp_path / "new", heads=(SIZE, STATE))
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path, name in zip(paths, (*CLASSES, "red"), strict=True):
        path.write_bytes(encode(picture([(name, 0, 0)], width=CELL, height=CELL)))
    attributes = [Attribute("state", (*CLASSES, "violet")), Attribute("size", ("s", "l"))]
    dataset = labels_dataset({"state": [0, 1, 2, 3], "size": [0, 1, None, 1]}, attributes)
    dataset = dataset.replace_column("path", [str(path) for path in paths])
    comparison = comparison_set(dataset, [old.card])
    assert comparison.new == ("state=violet", "size")
    assert comparison.explain() == ("on 3 of 4 test images, without 1 label of state=violet, the attribute size")
    source = FolderSource(kind="folder", path=tmp_path)
    config = Config(name="case", task="attributes", data=DataConfig(source=source, format="table"))
    task = task_for(config.task)
    theirs, ours = (task.evaluate(b, comparison.dataset_for(b.card), config.scoring, None) for b in (old, new))
    assert theirs.metrics["accuracy"] == 1
    assert ours.per_class["size"]["instances"] == 0
    assert ours.metrics["accuracy"] == ours.per_class["state"]["accuracy"]
    assert len(ours.replicates["accuracy"]) == len(theirs.replicates["accuracy"]) == 1000


def test_with_no_question_in_common_there_is_nothing_to_compare(tmp_path):
    dataset = labels_dataset({"a": [0, 1], "b": [0, 1]}, [Attribute("a", ("x", "y")), Attribute("b", ("x", "y"))])
    card = make_label_bundle(tmp_path / "bundle", heads=(STATE, SIZE)).card
    with pytest.raises(MetricError, match="without the attribute a, the attribute b"):
        comparison_set(dataset, [card])
