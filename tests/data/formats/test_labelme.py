from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers.datasets import coco, read_as, write_image, write_json
from tests.helpers.exports import Made, assert_read_back, export_labelme, labelme_json
from tests.helpers.made import made_images
from tests.helpers.mutations import fuzz_file
from visionops.data.findings import Code
from visionops.errors import AnnotationError


def codes(dataset):
    return [finding.code for finding in dataset.findings]


def shape(points, kind="rectangle", label="pit", **more):
    return {"label": label, "points": points, "shape_type": kind, **more}


BOX = shape([[1, 2], [9, 7]])


def one(root, *shapes, format_="auto"):
    """Return a folder with one image, a.jpg, and its file."""
    write_image(root / "a.jpg")
    write_json(root / "a.json", labelme_json("a.jpg", list(shapes)))
    return read_as(root, format_)


@pytest.mark.parametrize(
    ("item", "box"),
    [
        (BOX, (1, 2, 9, 7)),
        (shape([[9, 7], [1, 2]]), (1, 2, 9, 7)),
        (shape([[9, 2], [1, 7]]), (1, 2, 9, 7)),
        (shape([[1, 2], [9, 2], [9, 7], [1, 7]]), (1, 2, 9, 7)),  # X-AnyLabeling
        (shape([[1.5, 2.25], [9, 3], [4, 7.75]], "polygon"), (1.5, 2.25, 9, 7.75)),
        (shape([[1, 2], [9, 3], [4, 7]], None), (1, 2, 9, 7)),  # labelme 2
        (shape([[10, 8], [13, 12]], "circle"), (5, 3, 15, 13)),
        (shape([[1, 2], [8, 6]], "mask", mask="iVBORw0KGgo="), (1, 2, 9, 7)),
        (shape([[5, 2], [9, 5], [5, 8], [1, 5]], "rotation", direction=0.7), (1, 2, 9, 8)),
    ],
)
def test_shapes(tmp_path, item, box):
    dataset = one(tmp_path, item)
    assert dataset.boxes_of(0).xyxy.tolist() == [list(box)]
    assert dataset.class_names == ("pit",)
    assert dataset.boxes.column("source_id").to_pylist() == ["a.json: shape 1"]
    assert not dataset.findings
    assert bool(dataset.notes) is (item["shape_type"] != "rectangle")


def test_points_and_lines_are_counted_and_left_out(tmp_path):
    others = [shape([[1, 2]], "point"), shape([[1, 2], [3, 4]], "line"), shape([[1, 2], [3, 4]], "linestrip")]
    dataset = one(tmp_path, BOX, *others)
    assert dataset.num_boxes == 1
    assert dataset.notes == ("Shapes that have no box are left out: 1 x line, 1 x linestrip, 1 x point.",)
    write_image(tmp_path / "b.jpg", seed=1)
    write_json(tmp_path / "b.json", labelme_json("b.jpg", others))
    dataset = read_as(tmp_path, "auto")
    assert dataset.column("key") == ["a.jpg"]
    assert [(f.code, f.images) for f in dataset.findings] == [(Code.CROWD_ONLY, ("b.jpg",))]


@pytest.mark.parametrize(
    ("item", "code"),
    [
        (shape([[1, 2]]), Code.BAD_BOX),
        (shape([[1, 2], [3, 4]], "polygon"), Code.BAD_BOX),
        (shape([[1, 2], [float("nan"), 4]]), Code.BAD_BOX),
        (shape([[1, 2], ["3", 4]]), Code.BAD_BOX),
        (shape([[1, 2], [10**400, 4]]), Code.BAD_BOX),
        (shape([[1, 2]], "circle"), Code.BAD_BOX),
        (shape(None), Code.BAD_BOX),
        (shape([[1, 2], [3, 4]], label=""), Code.UNKNOWN_CATEGORY),
        (shape([[1, 2], [3, 4]], label=None), Code.UNKNOWN_CATEGORY),
        ("no shape", Code.BAD_BOX),
    ],
)
def test_a_bad_shape_is_a_finding_with_its_place(tmp_path, item, code):
    write_image(tmp_path / "a.jpg")
    content = labelme_json("a.jpg", [BOX])
    content["shapes"].append(item)
    write_json(tmp_path / "a.json", content)
    dataset = read_as(tmp_path, "labelme")
    assert dataset.num_boxes == 1
    assert [(f.code, f.where) for f in dataset.findings] == [(code, "a.json: shape 2")]


def test_outlines_of_one_group_are_one_object(tmp_path):
    left = shape([[1, 2], [3, 2], [3, 6]], "polygon", group_id=4)
    right = shape([[7, 3], [9, 3], [9, 7]], "polygon", group_id=4)
    other = shape([[7, 3], [9, 3], [9, 7]], "polygon", label="dent", group_id=4)
    dataset = one(tmp_path, left, right, other, {**BOX, "group_id": 4}, {**BOX, "group_id": 4})
    assert dataset.class_names == ("dent", "pit")
    boxes = dataset.boxes_of(0)
    assert boxes.xyxy.tolist() == [[1, 2, 9, 7], [7, 3, 9, 7], [1, 2, 9, 7], [1, 2, 9, 7]]
    assert boxes.class_ids.tolist() == [1, 0, 1, 1]
    assert any("1 outline joined" in note for note in dataset.notes)


@pytest.mark.parametrize("written", ["../images/a.jpg", "..\\images\\a.jpg", "a.jpg", "../../elsewhere/old.jpg", ""])
def test_images_in_another_folder(tmp_path, written):
    write_image(tmp_path / "images/a.jpg")
    write_json(tmp_path / "annotations/a.json", labelme_json(written, [BOX]))
    for format_ in ("auto", "labelme"):
        dataset = read_as(tmp_path, format_)
        assert dataset.column("key") == ["images/a.jpg"]
        assert not dataset.findings
    assert any("its own name is used" in note for note in dataset.notes) is ("old" in written)


def test_image_path_counts_where_it_is_there(tmp_path):
    write_image(tmp_path / "images/b.jpg")
    write_json(tmp_path / "annotations/a.json", labelme_json("../images/b.jpg", [BOX]))
    dataset = read_as(tmp_path, "auto")
    assert dataset.column("key") == ["images/b.jpg"]
    assert "imagePath is used" in dataset.notes[0]


def test_renamed_pairs_keep_the_old_path(tmp_path):
    for i, name in enumerate(("a", "b", "c")):
        write_image(tmp_path / f"{name}.jpg", seed=i)
        write_json(tmp_path / f"{name}.json", labelme_json("a.jpg", [shape([[i, 1], [i + 2, 5]])]))
    dataset = read_as(tmp_path, "auto")
    assert dataset.column("key") == ["a.jpg", "b.jpg", "c.jpg"]
    assert [dataset.boxes_of(i).xyxy[0, 0] for i in range(3)] == [0, 1, 2]
    assert not dataset.findings
    assert "2 files name an image in imagePath" in dataset.notes[0]


def test_own_name_with_the_suffix_of_the_path(tmp_path):
    write_image(tmp_path / "a.jpg")
    write_image(tmp_path / "a.png", seed=1)
    write_json(tmp_path / "a.json", labelme_json("old.png", [BOX]))
    assert read_as(tmp_path, "labelme").column("key") == ["a.png"]


@pytest.mark.parametrize("written", ["/etc/passwd", "C:\\x.jpg", "\\\\host\\x.jpg", "../../x.jpg", "a\n.jpg"])
def test_paths_lead_nowhere_else(tmp_path, written):
    write_image(tmp_path / "data/other.jpg")
    write_json(tmp_path / "data/a.json", labelme_json(written, [BOX]))
    write_image(tmp_path / "x.jpg")
    dataset = read_as(tmp_path / "data", "auto")
    assert dataset.num_images == 0
    assert codes(dataset) == [Code.UNSAFE_NAME, Code.ORPHAN_IMAGE]


def test_only_image_data(tmp_path):
    write_json(tmp_path / "a.json", {**labelme_json("a.jpg", [BOX]), "imageData": "/9j/4AAQ" * 100})
    dataset = read_as(tmp_path, "auto")
    assert [(f.code, f.where, f.images) for f in dataset.findings] == [(Code.MISSING_IMAGE, "a.json", ("a.jpg",))]
    assert "only imageData" in dataset.findings[0].message


@pytest.mark.parametrize("label", ['"imageData": "x', '\\"imageData\\": \\"', 'end"'])
@pytest.mark.parametrize("encoded", ["", "A", "/9j/" * 50, None])
def test_the_encoded_image_is_cut_out_and_nothing_else(tmp_path, label, encoded):
    write_image(tmp_path / "a.jpg")
    plain = labelme_json("a.jpg", [{**BOX, "label": label}])
    plain.pop("imageData")
    for content in ({**plain, "imageData": encoded}, {"imageData": encoded, **plain, "x": "y"}):
        write_json(tmp_path / "a.json", content)
        assert read_as(tmp_path, "labelme").class_names == (label,)


@pytest.mark.parametrize("name", ["labels.txt", "classes.txt"])
def test_order_of_classes(tmp_path, name):
    items = [{**BOX, "label": label} for label in ("b", "A", "new", "C", "__ignore__")]
    dataset = one(tmp_path, *items)
    assert dataset.class_names == ("A", "C", "b", "new")
    (tmp_path / name).write_text("__ignore__\n_background_\nC\nb\n a \n")
    dataset = read_as(tmp_path, "labelme")
    assert dataset.class_names == ("C", "b", "a", "new")
    assert any("__ignore__ left out" in note for note in dataset.notes)
    assert any("merged" in note for note in dataset.notes)
    (tmp_path / name).write_text("0 0.5 0.5 0.2 0.2\n")
    dataset = read_as(tmp_path, "labelme")
    assert dataset.class_names == ("A", "C", "b", "new")
    assert any("lists none of the labels" in note for note in dataset.notes)


def test_folders_of_splits(tmp_path):
    images = [Made(f"{split}.png", 8, 8, [("a", (1, 1, 5, 5))], split) for split in ("train", "val", "test")]
    dataset = read_as(export_labelme(tmp_path / "all", images, ["a"]), "auto")
    assert dataset.split_counts() == {"train": 1, "val": 1, "test": 1}
    dataset = read_as(export_labelme(tmp_path / "one", images[2:], ["a"]), "auto")
    assert dataset.split_counts() == {"": 1}


def test_flags_alone_are_no_boxes(tmp_path):
    write_image(tmp_path / "a.jpg")
    write_json(tmp_path / "a.json", {**labelme_json("a.jpg", []), "flags": {"good": True, "bad": False}})
    with pytest.raises(AnnotationError, match=r"a\.json: the labelme files have flags .* and no shapes"):
        read_as(tmp_path, "auto")


def test_other_json_files(tmp_path):
    one(tmp_path, BOX)
    write_json(tmp_path / "info.json", {"version": "1"})
    dataset = read_as(tmp_path, "auto")
    assert dataset.num_boxes == 1
    assert dataset.notes == ("1 JSON file without labelme annotations left out (info.json).",)
    write_json(tmp_path / "coco.json", coco(["a.jpg"], {"a.jpg": [("pit", (1, 2, 3, 4))]}, ["pit"]))
    with pytest.raises(AnnotationError, match=r"may be read in 2 ways: coco .* labelme"):
        read_as(tmp_path, "auto")
    (tmp_path / "b.json").write_text('{"shapes": [')
    with pytest.raises(AnnotationError, match=r"b\.json: not valid JSON"):
        read_as(tmp_path, "labelme")


def test_nothing_to_read(tmp_path):
    write_image(tmp_path / "a.jpg")
    with pytest.raises(AnnotationError, match="no JSON file below it has labelme's"):
        read_as(tmp_path, "labelme")
    write_json(tmp_path / "a.json", {"shapes": {}, "imagePath": "a.jpg"})
    with pytest.raises(AnnotationError, match='"shapes" must be a list'):
        read_as(tmp_path, "labelme")


def test_sizes_come_from_the_header_where_they_are_not_declared(tmp_path):
    write_image(tmp_path / "a.jpg", (20, 16))
    write_json(tmp_path / "a.json", {"shapes": [BOX], "imagePath": "a.jpg", "imageData": None, "lineColor": [0] * 4})
    dataset = read_as(tmp_path, "auto")
    assert (dataset.column("width"), dataset.column("height")) == ([20], [16])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=made_images(), data=st.data())
def test_round_trip(tmp_path_factory, made, data):
    images, classes = made
    order = data.draw(st.permutations(classes))
    dataset = read_as(export_labelme(tmp_path_factory.mktemp("labelme"), images, order), "auto")
    if not {"__ignore__", "_background_"} & set(classes):
        assert dataset.class_names == tuple(order)
    assert_read_back(dataset, images, "{split}/{name}")
    assert not dataset.findings


def test_fuzz(tmp_path):
    images = [Made(f"{i}.png", 8, 8, [("a", (1.0, 1.0, 5.0, 6.25)), ("b", (1, 2, 3, 4))], "train") for i in range(3)]
    export_labelme(tmp_path, images, ["b", "a"])
    content = json.loads((tmp_path / "train/0.json").read_text())
    content["shapes"] += [shape([[1, 1], [3, 3]], kind) for kind in ("circle", "mask", "point")]
    content["shapes"] += [shape([[1, 1], [3, 3], [2, 5]], "polygon", group_id=1)] * 2
    write_json(tmp_path / "train/0.json", content)
    fuzz_file(tmp_path, tmp_path / "train/0.json", "labelme")
