from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.datasets import read_as, write_vision
from visionops.data.dataset import IMAGES_SCHEMA, Dataset, Split
from visionops.data.findings import Code, Finding
from visionops.data.layers import BOXES_SCHEMA, ValueLayer
from visionops.errors import DataError


def made_up() -> Dataset:
    images = {"key": ["a", "b", "c"], "split": ["train", "val", "train"], "width": [4, 5, 6]}
    boxes = {"image": [2, 0, 2], "class_id": [1, 0, 0]}
    boxes |= {c: [float(i), i + 1.0, i + 2.0] for i, c in enumerate(("x1", "y1", "x2", "y2"))}
    finding = Finding.of(Code.ORPHAN_IMAGE, "d.jpg", "list it", ("d.jpg",))
    return Dataset.from_columns("d", ["x", "y"], images, boxes, ["a note"], [finding])


def test_unknown_columns_have_their_unknown_value():
    dataset = made_up()
    assert (dataset.num_images, dataset.num_boxes) == (3, 3)
    assert dataset.images.schema == IMAGES_SCHEMA
    assert dataset.boxes.schema == BOXES_SCHEMA
    assert dataset.column("num_bytes") == [-1] * 3
    assert dataset.column("plain") == [None] * 3
    assert dataset.boxes.column("source_id").to_pylist() == [""] * 3


def test_boxes_by_image_and_of_one_agree():
    dataset = made_up()
    by_image = dataset.boxes_by_image()
    assert [len(b.xyxy) for b in by_image] == [1, 0, 2]
    for row, boxes in enumerate(by_image):
        assert boxes.xyxy.tolist() == dataset.boxes_of(row).xyxy.tolist()
        assert boxes.class_ids.tolist() == dataset.boxes_of(row).class_ids.tolist()
    assert by_image[2].xyxy.tolist() == [[0, 1, 2, 3], [2, 3, 4, 5]]


def test_no_images_no_boxes():
    dataset = Dataset.from_columns("d", [], {"key": []}, {})
    assert dataset.boxes_by_image() == []
    assert dataset.split_counts() == {}
    assert dataset.take([]).num_images == 0
    assert dataset.fingerprint() == dataset.fingerprint()


@settings(max_examples=30, deadline=None)
@given(order=st.lists(st.sampled_from([0, 1, 2]), unique=True))
def test_taken_images_keep_their_boxes(order):
    dataset = made_up()
    taken = dataset.take(order)
    assert taken.column("key") == ["abc"[i] for i in order]
    whole = dataset.boxes_by_image()
    for boxes, i in zip(taken.boxes_by_image(), order, strict=True):
        np.testing.assert_array_equal(boxes.xyxy, whole[i].xyxy)


def test_splits():
    dataset = made_up()
    assert dataset.split_counts() == {"train": 2, "val": 1}
    assert dataset.select_split(Split.TRAIN).column("key") == ["a", "c"]
    assert dataset.select_split(Split.TEST).num_images == 0


def test_the_fingerprint_depends_on_content_not_on_order_or_place():
    dataset = made_up()
    assert dataset.take([2, 0, 1]).fingerprint() == dataset.fingerprint()
    assert dataset.replace_column("path", ["/x", "/y", "/z"]).fingerprint() == dataset.fingerprint()
    assert dataset.replace_column("split", ["train"] * 3).fingerprint() != dataset.fingerprint()
    assert dataset.replace_column("sha256", ["1", "2", "3"]).fingerprint() != dataset.fingerprint()
    assert dataset.take([0, 1]).fingerprint() != dataset.fingerprint()


def test_saved_and_loaded(tmp_path):
    dataset = made_up()
    dataset.save(tmp_path / "d")
    assert Dataset.load(tmp_path / "d") == dataset
    real = read_as(write_vision(tmp_path / "v"), "vision", "v")
    real.save(tmp_path / "r")
    assert Dataset.load(tmp_path / "r").fingerprint() == real.fingerprint()


@pytest.mark.parametrize("name", ["dataset.json", "images.parquet", "boxes.parquet"])
@pytest.mark.parametrize("content", [None, b"", b"{}"])
def test_damaged_files(tmp_path, name, content):
    made_up().save(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="not a saved data set"):
        Dataset.load(tmp_path)


def test_shards_contain_each_image_once():
    hashes = [f"{i:08x}{'0' * 56}" for i in range(0, 2**32, 2**32 // 97)]
    hashed = Dataset.from_columns("d", [], {"key": [str(i) for i in range(len(hashes))], "sha256": hashes}, {})
    for images in (hashed, hashed.replace_column("sha256", [""] * len(hashes))):
        shards = [images.shard(n, 7).column("key") for n in range(7)]
        assert sorted(itertools.chain(*shards)) == sorted(images.column("key"))
        assert min(map(len, shards)) > 5
        fewer = images.take([1, 5, 96])
        assert {n for n in range(7) if fewer.shard(n, 7).num_images} == {
            n for n in range(7) if {"1", "5", "96"} & set(shards[n])
        }
    # With hashes each part is a range, like shards of bytes.
    firsts = [hashed.shard(n, 7).column("sha256") for n in range(7)]
    assert list(itertools.chain(*firsts)) == hashes
    assert made_up().shard(0, 1).boxes_of(2).class_ids.tolist() == [1, 0]


# Layers


@pytest.fixture
def weighed() -> Dataset:
    """Return two images with a layer that has only the weight of the part."""
    plain = Dataset.from_columns("parts", (), {"key": ["b", "a"], "split": ["train", "test"]}, {})
    grams = ValueLayer(pa.table({"grams": [2.5, None], "scale": ["one", "two"]}))
    return dataclasses.replace(plain, layers={"weights": grams})


def test_a_layer_of_values_follows_its_images(weighed, tmp_path):
    weighed.save(tmp_path)
    loaded = Dataset.load(tmp_path)
    assert (loaded, loaded.fingerprint()) == (weighed, weighed.fingerprint())
    assert loaded.take([1, 0]).layers["weights"].table.column("scale").to_pylist() == ["two", "one"]
    assert loaded.append(weighed).layers["weights"].table.column("grams").to_pylist() == [2.5, None, 2.5, None]
    assert loaded.select_split(Split.TEST).layers["weights"].table.to_pylist() == [{"grams": None, "scale": "two"}]


def test_a_layer_changes_the_fingerprint_and_the_order_of_rows_does_not(weighed):
    heavier = weighed.with_layer("weights", ValueLayer(pa.table({"grams": [2.6, None], "scale": ["one", "two"]})))
    assert (
        len({weighed.fingerprint(), heavier.fingerprint(), dataclasses.replace(weighed, layers={}).fingerprint()}) == 3
    )
    assert weighed.take([1, 0]).fingerprint() == weighed.fingerprint()


def test_describe_without_boxes_and_labels_names_the_layers(weighed):
    assert weighed.describe() == "2 images, weights"
    assert (weighed.num_boxes, weighed.class_names, weighed.attributes) == (0, (), ())
    assert weighed.label_array().shape == (2, 0)


@pytest.mark.parametrize("name", ["", "../up", "Weights", "a.b", "layer-x"])
def test_the_name_of_a_layer_must_be_a_file_name(weighed, name):
    with pytest.raises(ValueError, match="invalid layer name"):
        weighed.with_layer(name, ValueLayer(pa.table({"grams": [1.0, 2.0]})))
