"""Changes by cleaning, its notes, and what it leaves unchanged."""

from __future__ import annotations

import math

import pytest

from tests.helpers import images
from tests.helpers.images import dataset_of
from visionops.data.cleaning import clean
from visionops.data.dataset import Dataset
from visionops.data.findings import Code, Severity
from visionops.data.settings import ValidationPolicy
from visionops.data.validation.judging import validate
from visionops.errors import DataError

LENIENT = ValidationPolicy(min_images=1, min_instances=0, severities=dict.fromkeys(Code, Severity.WARNING))


def cleaned(dataset: Dataset) -> Dataset:
    return clean(dataset, validate(dataset, LENIENT))


def resaved(seed: int) -> bytes:
    return images.encode(images.picture(seed), "JPEG", quality=60)


def test_a_clean_data_set_only_gets_the_facts_of_its_files(tmp_path):
    files = {"b.jpg": images.jpeg(1), "a.jpg": images.jpeg(2)}
    boxes = [("a.jpg", 1, (1, 2, 3, 4)), ("b.jpg", 0, (5, 6, 7, 8))]
    dataset = dataset_of(tmp_path, files, boxes=boxes, splits={"a.jpg": "val", "b.jpg": "train"}, group=["x", ""])
    result = cleaned(dataset)
    assert result.notes == ()
    assert result.boxes == dataset.boxes
    for column in ("key", "path", "split", "num_bytes", "group"):
        assert result.column(column) == dataset.column(column)
    assert (result.column("width"), result.column("height"), result.column("plain")) == ([64] * 2, [48] * 2, [True] * 2)
    assert [len(digest) for digest in result.column("sha256")] == [64, 64]


def test_the_file_wins_over_the_declared_size(tmp_path):
    dataset = dataset_of(tmp_path, {"a.jpg": images.rotated_jpeg()}, width=[64], height=[48])
    result = cleaned(dataset)
    assert (result.column("width"), result.column("height"), result.column("plain")) == ([48], [64], [False])


def test_a_known_hash_is_kept(tmp_path):
    assert cleaned(dataset_of(tmp_path, {"a.jpg": images.jpeg()}, sha256=["ab"])).column("sha256") == ["ab"]


def test_unusable_images_go_with_their_boxes(tmp_path):
    files = {"bad.jpg": b"", "a.jpg": images.jpeg(1), "worse.jpg": b"text", "gone.jpg": b"x", "b.jpg": images.jpeg(2)}
    dataset = dataset_of(tmp_path, files, boxes=[(name, 0, (1, 1, 9, 9)) for name in files])
    (tmp_path / "gone.jpg").unlink()
    result = cleaned(dataset)
    assert result.column("key") == ["a.jpg", "b.jpg"]
    assert result.boxes.column("source_id").to_pylist() == ["2", "5"]
    assert result.notes == ("3 unusable images left out (1 empty_file, 1 missing_image, 1 not_an_image).",)


def test_boxes_are_clipped_as_rectangles_and_empty_ones_go(tmp_path):
    boxes = [
        ("a.jpg", 0, (-5, 10, 20, 90)),
        ("a.jpg", 0, (60, 10, 50, 20)),
        ("a.jpg", 1, (70, 10, 90, 20)),
        ("a.jpg", 1, (math.nan, 10, 90, 20)),
        ("a.jpg", 1, (0, 0, 64, 48)),
    ]
    result = cleaned(dataset_of(tmp_path, {"a.jpg": images.jpeg()}, boxes=boxes))
    assert result.boxes_of(0).xyxy.tolist() == [[0, 10, 20, 48], [0, 0, 64, 48]]
    assert result.boxes_of(0).class_ids.tolist() == [0, 1]
    assert result.notes == (
        "1 box clipped to the image.",
        "3 boxes without area inside the image left out.",
    )


def test_repeated_boxes_go_also_those_that_clipping_makes_equal(tmp_path):
    boxes = [("a.jpg", 0, (-5, 0, 9, 9)), ("a.jpg", 0, (-6, 0, 9, 9)), ("a.jpg", 1, (-5, 0, 9, 9))]
    result = cleaned(dataset_of(tmp_path, {"a.jpg": images.jpeg()}, boxes=boxes))
    assert result.boxes.column("source_id").to_pylist() == ["1", "3"]
    assert result.notes[-1] == "1 repeated box left out."


def test_a_leaked_file_stays_in_the_split_most_worth_protecting(tmp_path):
    files = {
        "train/a.jpg": images.jpeg(1),
        "val/a.jpg": images.jpeg(1),
        "test/a.jpg": images.jpeg(1),
        "train/b.jpg": images.jpeg(2),
        "val/b.jpg": images.jpeg(2),
        "train/c.jpg": images.jpeg(3),
        "train/c2.jpg": images.jpeg(3),
        "unlabelled/c.jpg": images.jpeg(3),
    }
    result = cleaned(dataset_of(tmp_path, files, splits={name: name.split("/")[0] for name in files}))
    assert result.column("key") == ["test/a.jpg", "val/b.jpg", "train/c.jpg", "unlabelled/c.jpg"]
    assert result.notes == (
        "1 image of train left out: the same file is in test, which keeps it.",
        "1 image of train left out: the same file is in val, which keeps it.",
        "1 image of val left out: the same file is in test, which keeps it.",
        "1 repeated file within one split left out; the first stays.",
    )


def test_near_duplicates_share_a_group_and_join_the_groups_they_touch(tmp_path):
    files = {
        "a.jpg": images.jpeg(1),
        "a2.jpg": resaved(1),
        "b.jpg": images.jpeg(2),
        "b2.jpg": resaved(2),
        "c.jpg": images.jpeg(3),
        "d.jpg": images.jpeg(4),
    }
    result = cleaned(dataset_of(tmp_path, files, group=["", "", "part 7", "part 8", "part 8", ""]))
    assert result.column("group") == ["alike:a.jpg", "alike:a.jpg", "part 7", "part 7", "part 7", ""]
    assert result.notes == ("4 images in 2 groups of near duplicates kept together.",)


def test_cleaning_twice_changes_nothing_more(tmp_path):
    files = {"a.jpg": images.jpeg(1), "copy.jpg": images.jpeg(1), "bad.jpg": b"", "near.jpg": resaved(1)}
    once = cleaned(dataset_of(tmp_path, files, boxes=[("a.jpg", 0, (-1, 1, 9, 9))]))
    twice = cleaned(once)
    assert twice.images == once.images
    assert twice.boxes == once.boxes


def test_all_images_unusable_leaves_an_empty_data_set(tmp_path):
    result = cleaned(dataset_of(tmp_path, {"a.jpg": b""}, boxes=[("a.jpg", 0, (1, 1, 2, 2))]))
    assert (result.num_images, result.num_boxes) == (0, 0)


def test_a_report_of_another_data_set_is_refused(tmp_path):
    report = validate(dataset_of(tmp_path, {"a.jpg": images.jpeg(1)}), LENIENT)
    with pytest.raises(DataError, match=r"^parts: the validation report is of another data set"):
        clean(dataset_of(tmp_path, {"b.jpg": images.jpeg(1)}), report)
