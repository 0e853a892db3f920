from __future__ import annotations

import pytest

from tests.helpers.datasets import read_as, voc_xml, write_image, write_voc, write_yolo_layout
from visionops.config import DataConfig, FolderSource, Format
from visionops.data.findings import Code
from visionops.data.formats import read_dataset
from visionops.errors import AnnotationError


def codes(dataset):
    return [finding.code for finding in dataset.findings]


def one(root, xml: str):
    """A VOC folder of one image, a.jpg."""
    (root / "Annotations").mkdir()
    write_image(root / "JPEGImages/a.jpg")
    (root / "Annotations/a.xml").write_text(xml)
    return read_as(root, "voc", "made-up")


def test_boxes_are_continuous_and_from_zero(tmp_path):
    dataset = read_as(write_voc(tmp_path, lists=False), "voc", "made-up")
    assert dataset.class_names == ("cat", "dog")
    assert dataset.boxes_of(0).xyxy.tolist() == [[0, 0, 20, 16], [1, 2, 4, 5]]
    assert dataset.boxes_of(0).class_ids.tolist() == [1, 0]
    assert dataset.split_counts() == {"": 6}
    assert not dataset.findings


def test_lists_give_the_splits(tmp_path):
    dataset = read_as(write_voc(tmp_path), "voc", "made-up")
    assert dataset.split_counts() == {"train": 3, "val": 1, "test": 1}
    assert [(f.code, f.where) for f in dataset.findings] == [(Code.ORPHAN_IMAGE, "JPEGImages/000005.jpg")]


def test_trainval_is_train_where_nothing_else_is_said(tmp_path):
    root = write_voc(tmp_path)
    (root / "ImageSets/Main/train.txt").unlink()
    assert read_as(root, "voc", "made-up").split_counts() == {"train": 1, "val": 1, "test": 1}


def test_lists_that_contradict_or_name_the_absent(tmp_path):
    root = write_voc(tmp_path)
    (root / "ImageSets/Main/test.txt").write_text("000000\n000099\n")
    dataset = read_as(root, "voc", "made-up")
    assert codes(dataset).count(Code.DUPLICATE_NAME) == 1
    assert "stand in train and in test" in dataset.findings[0].message
    assert dataset.findings[-1].where == "ImageSets/Main/test.txt:2"
    assert dataset.findings[-1].code is Code.UNKNOWN_IMAGE


def test_nested_devkit(tmp_path):
    write_voc(tmp_path / "VOCdevkit/VOC2007")
    dataset = read_as(tmp_path, "voc", "made-up")
    assert dataset.column("key")[0] == "VOCdevkit/VOC2007/JPEGImages/000000.jpg"
    write_voc(tmp_path / "VOCdevkit/VOC2012")
    with pytest.raises(AnnotationError, match="holds 2 VOC folders"):
        read_as(tmp_path, "voc", "made-up")


def test_missing_folders(tmp_path):
    with pytest.raises(AnnotationError, match="Annotations: not found"):
        read_as(tmp_path, "voc", "made-up")
    (tmp_path / "Annotations").mkdir()
    with pytest.raises(AnnotationError, match="holds no XML files"):
        read_as(tmp_path, "voc", "made-up")
    (tmp_path / "Annotations/a.xml").touch()
    with pytest.raises(AnnotationError, match=r"a\.xml:1: not valid XML"):
        read_as(tmp_path, "voc", "made-up")


def test_file_name_may_be_stale_or_absent(tmp_path):
    dataset = one(tmp_path, voc_xml("old.jpg", []))
    assert dataset.column("key") == ["JPEGImages/a.jpg"]
    (tmp_path / "Annotations/a.xml").write_text("<annotation/>")
    dataset = read_as(tmp_path, "voc", "made-up")
    assert dataset.column("key") == ["JPEGImages/a.jpg"]
    assert (dataset.column("width"), dataset.column("height")) == ([20], [16]), "from the header"
    (tmp_path / "JPEGImages/a.jpg").write_text("no image")
    assert read_as(tmp_path, "voc", "made-up").column("width") == [0]


def test_unsafe_missing_and_doubled_images(tmp_path):
    assert codes(one(tmp_path, voc_xml("../a.jpg", []))) == [Code.UNSAFE_NAME]
    (tmp_path / "Annotations/a.xml").write_text(voc_xml("a.jpg", [("x", (1, 1, 2, 2))]))
    (tmp_path / "Annotations/b.xml").write_text(voc_xml("a.jpg", [("y", (1, 1, 2, 2))]))
    (tmp_path / "Annotations/c.xml").write_text(voc_xml("c.jpg", []))
    dataset = read_as(tmp_path, "voc", "made-up")
    assert codes(dataset) == [Code.DUPLICATE_NAME, Code.MISSING_IMAGE]
    assert len(dataset.boxes_of(0).xyxy) == 2
    assert dataset.column("path")[1] == ""


@pytest.mark.parametrize("box", [("nan", 1, 2, 2), (1, 1, "inf", 2), (5, 1, 2, 2), (1, 9, 2, 2)])
def test_bad_boxes(tmp_path, box):
    dataset = one(tmp_path, voc_xml("a.jpg", [("x", (1, 1, 2, 2)), ("x", box)]))
    assert codes(dataset) == [Code.BAD_BOX]
    assert dataset.findings[0].where == "Annotations/a.xml: object 2"
    assert dataset.num_boxes == 1


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("", "not valid XML"),
        ("<annotation>", "not valid XML"),
        ("<x/>", "must be <annotation>"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "defines entities"),
        ("<annotation><object><bndbox/></object></annotation>", "object 1 lacks <name>"),
        ("<annotation><object><name>a</name></object></annotation>", "object 1 lacks <bndbox>"),
        (voc_xml("a.jpg", [("x", ("one", 1, 2, 2))]), "<xmin> must be a number, but is 'one'"),
        (voc_xml("a.jpg", [], size=("wide", 1)), "<width> must be a number of pixels, but is 'wide'"),
        (voc_xml("a.jpg", [], size=(3, -1)), "<height> must be"),
    ],
)
def test_malformed_files(tmp_path, xml, message):
    with pytest.raises(AnnotationError) as error:
        one(tmp_path, xml)
    assert message in str(error.value)
    assert "a.xml" in str(error.value)


def test_unreadable_files(tmp_path):
    root = write_voc(tmp_path)
    (root / "ImageSets/Main/val.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(AnnotationError, match=r"val\.txt: not a UTF-8 text file"):
        read_as(root, "voc", "made-up")


def test_every_format_has_its_reader(tmp_path):
    for format_, write in ((Format.VOC, write_voc), (Format.YOLO, write_yolo_layout)):
        root = write(tmp_path / format_)
        data = DataConfig(source=FolderSource(kind="folder", path=root), format=format_)
        assert read_dataset(root, data, "made-up").num_images > 4
