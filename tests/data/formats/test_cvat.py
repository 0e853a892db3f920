from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers.datasets import read_as, write_image
from tests.helpers.exports import Made, assert_read_back, export_cvat
from tests.helpers.made import made_images
from tests.helpers.mutations import fuzz_file
from visionops.data.findings import Code
from visionops.errors import AnnotationError

LABELS = "<label><name>pit</name></label><label><name>dent</name></label>"


def cvat_xml(images: str, labels: str = LABELS, owner: str = "task", meta: str = "") -> str:
    return (
        f"<?xml version='1.0' encoding='utf-8'?><annotations><version>1.1</version><meta><{owner}>{meta}"
        f"<labels>{labels}</labels></{owner}></meta>{images}</annotations>"
    )


def image(shapes: str, name: str = "a.jpg", more: str = "") -> str:
    return f'<image id="0" name="{name}" width="20" height="16" {more}>{shapes}</image>'


def one(root, shapes: str, labels: str = LABELS):
    """Read a task with one image, a.jpg."""
    write_image(root / "images/a.jpg")
    (root / "annotations.xml").write_text(cvat_xml(image(shapes), labels), encoding="utf-8")
    return read_as(root, "auto")


def codes(dataset):
    return [finding.code for finding in dataset.findings]


BOX = '<box label="dent" xtl="1.50" ytl="2" xbr="11.5" ybr="6" occluded="1" z_order="0"/>'

SKELETON = (
    '<skeleton label="dent"><points label="1" outside="0" points="2,3"/><points label="2" points="7,9"/>'
    '<points label="3" outside="1" points="0,0"/></skeleton>'
)
CUBOID = (
    '<cuboid label="dent" xtl1="1" ytl1="2" xbl1="1" ybl1="8" xtr1="6" ytr1="2" xbr1="6" ybr1="8" '
    'xtl2="3" ytl2="1" xbl2="3" ybl2="7" xtr2="9" ytr2="1" xbr2="9" ybr2="7"/>'
)


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        (BOX, (1.5, 2, 11.5, 6)),
        ('<box label="dent" xtl="2" ytl="4" xbr="12" ybr="8" rotation="90.0"/>', (5, 1, 9, 11)),
        ('<box label="dent" xtl="2" ytl="4" xbr="12" ybr="8" rotation="180"/>', (2, 4, 12, 8)),
        ('<polygon label="dent" points="1.00,2.00;9.00,2.50;4.00,7.00"/>', (1, 2, 9, 7)),
        ('<polyline label="dent" points="1,7;9,2"/>', (1, 2, 9, 7)),
        ('<ellipse label="dent" cx="10" cy="8" rx="4" ry="2"/>', (6, 6, 14, 10)),
        ('<ellipse label="dent" cx="10" cy="8" rx="4" ry="2" rotation="90"/>', (8, 4, 12, 12)),
        ('<mask label="dent" rle="1, 3" left="2" top="3" width="2" height="2"/>', (2, 3, 4, 5)),
        (
            SKELETON,
            (2, 3, 7, 9),
        ),
        (
            CUBOID,
            (1, 1, 9, 8),
        ),
    ],
)
def test_every_shape_is_the_box_around_it(tmp_path, shape, box):
    dataset = one(tmp_path, shape)
    assert dataset.boxes_of(0).xyxy.tolist() == [pytest.approx(box)]
    assert dataset.class_names == ("pit", "dent"), "labels in their order, with or without a shape"
    assert not dataset.findings
    upright = shape == BOX
    assert any("upright box" in note for note in dataset.notes) is not upright


def test_a_rotated_box_has_the_corners_inside(tmp_path):
    dataset = one(tmp_path, '<box label="pit" xtl="4" ytl="4" xbr="14" ybr="8" rotation="30"/>')
    half_x = (10 * math.cos(math.pi / 6) + 4 * math.sin(math.pi / 6)) / 2
    assert dataset.boxes_of(0).xyxy[0, 0] == pytest.approx(9 - half_x)


def test_points_are_left_out_and_their_images_too(tmp_path):
    write_image(tmp_path / "images/b.jpg", seed=1)
    write_image(tmp_path / "images/a.jpg")
    points = '<points label="pit" points="1,2;3,4"/>'
    text = cvat_xml(image(points) + image(points + BOX, "b.jpg") + image("", "c.jpg"))
    write_image(tmp_path / "images/c.jpg", seed=2)
    (tmp_path / "annotations.xml").write_text(text)
    dataset = read_as(tmp_path, "cvat")
    assert dataset.column("key") == ["images/b.jpg", "images/c.jpg"]
    assert codes(dataset) == [Code.CROWD_ONLY]
    assert "2 x points" in " ".join(dataset.notes)


def test_tags_and_attributes_are_counted(tmp_path):
    dataset = one(tmp_path, '<tag label="bad"/>' + BOX.replace("/>", '><attribute name="a">1</attribute></box>'))
    assert dataset.num_boxes == 1
    assert "1 tag of" in " ".join(dataset.notes)
    assert "1 attribute of" in " ".join(dataset.notes)


def test_only_tags_are_refused_with_the_fix(tmp_path):
    with pytest.raises(AnnotationError, match=r"has tags .*export as ImageNet"):
        one(tmp_path, '<tag label="bad" source="manual"/>')


def test_video_is_refused_by_name(tmp_path):
    write_image(tmp_path / "images/frame_000000.PNG")
    track = '<track id="0" label="pit"><box frame="0" outside="0" xtl="1" ytl="1" xbr="2" ybr="2"/></track>'
    (tmp_path / "annotations.xml").write_text(cvat_xml(track))
    with pytest.raises(AnnotationError, match=r"CVAT for video 1\.1 holds tracks.* export"):
        read_as(tmp_path, "auto")


def test_labels_that_are_no_classes_of_boxes(tmp_path):
    labels = (
        "<label><name>body</name><type>skeleton</type></label><label><name>1</name><type>points</type>"
        "<parent>body</parent></label><label><name>night</name><type>tag</type></label>" + LABELS
    )
    assert one(tmp_path, BOX, labels).class_names == ("body", "pit", "dent")


@pytest.mark.parametrize("owner", ["task", "project", "job"])
def test_labels_of_a_task_project_or_job(tmp_path, owner):
    write_image(tmp_path / "a.jpg")
    (tmp_path / "annotations.xml").write_text(cvat_xml(image(BOX), owner=owner))
    assert read_as(tmp_path, "auto").class_names == ("pit", "dent")


def test_subsets_are_splits(tmp_path):
    names = {"Train": "a.jpg", "Validation": "a.jpg", "test": "sub/b.jpg", "default": "c.jpg"}
    text = ""
    for seed, (subset, name) in enumerate(names.items()):
        write_image(tmp_path / "images" / subset / name, seed=seed)
        text += image(BOX, name, f'subset="{subset}"')
    (tmp_path / "annotations.xml").write_text(cvat_xml(text, owner="project"))
    dataset = read_as(tmp_path, "auto")
    assert dataset.split_counts() == {"train": 1, "val": 1, "test": 1, "": 1}
    assert dataset.column("key")[1] == "images/Validation/a.jpg"
    assert not dataset.findings


def test_one_file_per_task(tmp_path):
    for seed, (task, subset) in enumerate((("one", "Train"), ("two", "Val"))):
        write_image(tmp_path / task / "images/a.jpg", seed=seed)
        meta = f"<subset>{subset}</subset>"
        (tmp_path / task / "annotations.xml").write_text(cvat_xml(image(BOX), meta=meta))
    dataset = read_as(tmp_path, "auto")
    assert dataset.column("key") == ["one/images/a.jpg", "two/images/a.jpg"]
    assert dataset.split_counts() == {"train": 1, "val": 1}
    assert not dataset.findings


def test_one_subset_alone_is_no_split_but_train(tmp_path):
    write_image(tmp_path / "images/test/a.jpg")
    (tmp_path / "annotations.xml").write_text(cvat_xml(image(BOX, more='subset="test"')))
    assert read_as(tmp_path, "auto").split_counts() == {"": 1}


def test_names_of_another_machine_and_missing_files(tmp_path):
    write_image(tmp_path / "images/line 2/b.jpg")
    text = image(BOX, "line 2\\b.jpg") + image(BOX, "/mnt/share/c.jpg") + image(BOX, "d.jpg") + image(BOX, "")
    (tmp_path / "annotations.xml").write_text(cvat_xml(text))
    dataset = read_as(tmp_path, "cvat")
    assert sorted(codes(dataset)) == [Code.MISSING_IMAGE, Code.UNKNOWN_IMAGE, Code.UNSAFE_NAME]
    assert dataset.column("key") == ["images/line 2/b.jpg", "d.jpg"]


@pytest.mark.parametrize(
    "shape",
    [
        '<box label="pit" xtl="1" ytl="1" xbr="two" ybr="2"/>',
        '<box label="pit" xtl="1" ytl="1" ybr="2"/>',
        '<box label="pit" xtl="3" ytl="1" xbr="1" ybr="2"/>',
        '<box label="pit" xtl="3" ytl="1" xbr="1e999" ybr="2"/>',
        '<box label="pit" xtl="1" ytl="1" xbr="2" ybr="2" rotation="nan"/>',
        '<polygon label="pit" points=""/>',
        '<polygon label="pit" points="1,2;3"/>',
        '<ellipse label="pit" cx="1" cy="1" rx="-1" ry="1"/>',
        '<mask label="pit" left="1" top="1" width="-1" height="2"/>',
        '<cuboid label="pit"/>',
    ],
)
def test_bad_shapes(tmp_path, shape):
    dataset = one(tmp_path, shape + BOX)
    assert codes(dataset) == [Code.BAD_BOX]
    assert dataset.num_boxes == 1


def test_a_shape_without_a_label(tmp_path):
    dataset = one(tmp_path, BOX.replace('label="dent"', "") + BOX)
    assert codes(dataset) == [Code.UNKNOWN_CATEGORY]
    assert dataset.findings[0].where == "annotations.xml: image 0: box 1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (cvat_xml("<image>"), r"annotations\.xml:1: not valid XML"),
        ("", "not valid XML|no XML file|root <annotations>"),
        (cvat_xml("").replace("<annotations>", '<!DOCTYPE a [<!ENTITY b "c">]><annotations>'), "defines entities"),
        ("<annotations><x/></annotations>", "root <annotations> of CVAT"),
    ],
)
def test_malformed_files(tmp_path, text, message):
    write_image(tmp_path / "a.jpg")
    (tmp_path / "annotations.xml").write_text(text)
    with pytest.raises(AnnotationError, match=message):
        read_as(tmp_path, "cvat")


def test_a_large_file_is_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("visionops.data.formats.xml_files._CHUNK_BYTES", 64)
    images = [Made(f"{i}.png", 8, 8, [("a", (1.0, 1.0, 5.0, 6.25))]) for i in range(30)]
    dataset = read_as(export_cvat(tmp_path, images, ["b", "a"]), "auto")
    assert (dataset.num_images, dataset.num_boxes, dataset.class_names) == (30, 30, ("b", "a"))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=made_images(), data=st.data())
def test_round_trip(tmp_path_factory, made, data):
    images, classes = made
    order = data.draw(st.permutations(classes))
    root = tmp_path_factory.mktemp("cvat")
    dataset = read_as(export_cvat(root, images, order), "auto")
    assert dataset.class_names == tuple(order)
    assert_read_back(dataset, images, "images/{split}/{name}")
    assert not dataset.findings


def test_fuzz(tmp_path):
    images = [Made(f"{i}.png", 8, 8, [("a", (1.0, 1.0, 5.0, 6.25))], "train") for i in range(3)]
    export_cvat(tmp_path, images, ["b", "a"])
    fuzz_file(tmp_path, tmp_path / "annotations.xml", "cvat")
