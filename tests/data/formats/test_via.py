from __future__ import annotations

import contextlib
import csv
import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers.datasets import read_as, write_image, write_json
from tests.helpers.exports import Made, assert_read_back, export_via, export_via3, export_via_csv, via_entries
from tests.helpers.made import made_images
from tests.helpers.mutations import fuzz_file
from visionops.data.findings import Code
from visionops.errors import AnnotationError, DataError

RECT = {"name": "rect", "x": 1, "y": 2, "width": 8, "height": 5}
MADE = [Made("a.png", 20, 16, [("pit", (1, 2, 9, 7))]), Made("b.png", 20, 16, [])]


def codes(dataset):
    return [finding.code for finding in dataset.findings]


def region(shape=RECT, **attributes):
    return {"shape_attributes": shape, "region_attributes": attributes}


def entry(*regions, name="a.jpg", **more):
    return {"filename": name, "size": 9, "regions": list(regions), "file_attributes": {}, **more}


def one(root, *regions, format_="auto", **more):
    """Return an export with one image, a.jpg."""
    write_image(root / "a.jpg")
    write_json(root / "via_region_data.json", {"a.jpg9": entry(*regions, **more)})
    return read_as(root, format_)


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        (RECT, (1, 2, 9, 7)),
        ({"name": "circle", "cx": 10, "cy": 8, "r": 3.5}, (6.5, 4.5, 13.5, 11.5)),
        ({"name": "ellipse", "cx": 10, "cy": 8, "rx": 4, "ry": 2}, (6, 6, 14, 10)),
        ({"name": "ellipse", "cx": 10, "cy": 8, "rx": 4, "ry": 2, "theta": math.pi / 2}, (8, 4, 12, 12)),
        ({"name": "polygon", "all_points_x": [1, 9, 4], "all_points_y": [2, 3, 7]}, (1, 2, 9, 7)),
    ],
)
def test_shapes(tmp_path, shape, box):
    for format_ in ("auto", "via"):
        dataset = one(tmp_path, region(shape, damage="pit"), format_=format_)
        assert dataset.boxes_of(0).xyxy[0].tolist() == pytest.approx(box)
        assert dataset.class_names == ("pit",)
        assert not dataset.findings
        assert bool(dataset.notes) is (shape["name"] != "rect")


def test_points_and_lines_are_counted_and_left_out(tmp_path):
    line = region({"name": "polyline", "all_points_x": [1, 9], "all_points_y": [2, 3]}, kind="pit")
    dataset = one(tmp_path, region(kind="pit"), line, region({"name": "point", "cx": 1, "cy": 2}, kind="pit"))
    assert (dataset.num_boxes, dataset.notes) == (
        1,
        ("Shapes that have no box are left out: 1 x point, 1 x polyline.",),
    )
    dataset = one(tmp_path, line)
    assert (dataset.num_images, codes(dataset)) == (0, [Code.CROWD_ONLY])


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (region({**RECT, "width": -3}, kind="pit"), Code.BAD_BOX),
        (region({**RECT, "x": "1"}, kind="pit"), Code.BAD_BOX),
        (region({"name": "rect", "x": 1}, kind="pit"), Code.BAD_BOX),
        (region({"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1, 2]}, kind="pit"), Code.BAD_BOX),
        (region({"name": "ellipse", "cx": 1, "cy": 1, "rx": -1, "ry": 1}, kind="pit"), Code.BAD_BOX),
        (region(), Code.UNKNOWN_CATEGORY),
        (region(kind=""), Code.UNKNOWN_CATEGORY),
        (region(kind={"pit": True, "dent": True}), Code.UNKNOWN_CATEGORY),
        (region(kind={"pit": False}), Code.UNKNOWN_CATEGORY),
        ({"region_attributes": {"kind": "pit"}}, Code.BAD_BOX),
        (7, Code.BAD_BOX),
    ],
)
def test_a_bad_region_is_a_finding_with_its_place(tmp_path, bad, code):
    dataset = one(tmp_path, region(kind={"pit": True, "dent": False}), bad)
    assert dataset.num_boxes == 1
    assert [(f.code, f.where) for f in dataset.findings] == [(code, "via_region_data.json: image 1, region 2")]


def test_regions_of_via_1_are_numbered(tmp_path):
    write_image(tmp_path / "a.jpg")
    regions = {"0": region(class_name="pit"), "1": region(class_name="dent")}
    old = {"fileref": "", "size": 9, "filename": "a.jpg", "base64_img_data": "", "file_attributes": {}}
    write_json(tmp_path / "via.json", {"a.jpg9": {**old, "regions": regions}})
    dataset = read_as(tmp_path, "auto")
    assert (dataset.num_boxes, dataset.class_names) == (2, ("dent", "pit"))


@pytest.mark.parametrize(
    ("attributes", "classes"),
    [
        ({"name": "Lena", "type": "pit", "image_quality": {"good": True}}, ("pit",)),
        ({"id": "7", "Class ": " pit "}, ("pit",)),
        ({"id": "7", "label": "pit"}, ("pit",)),
        ({"id": "7", "label": ""}, ("7",)),
        ({"no": 7}, ("7",)),
    ],
)
def test_which_attribute_is_the_class(tmp_path, attributes, classes):
    dataset = one(tmp_path, region(**attributes))
    assert dataset.class_names == classes
    if len(attributes) > 2:
        assert dataset.notes[0].startswith("Attribute 'type' of the regions is the class")


def test_no_attribute_is_clearly_the_class(tmp_path):
    with pytest.raises(AnnotationError, match=r"2 attributes, 'depth', 'severity', and none is called class"):
        one(tmp_path, region(severity="high", depth="2"))
    with pytest.raises(AnnotationError, match="no region has an attribute"):
        one(tmp_path, region(), region(x=""))
    with pytest.raises(AnnotationError, match="the images have attributes"):
        one(tmp_path, file_attributes={"quality": "good"})


def _all_of_one_class(dataset):
    assert dataset.class_names == ("object",)
    assert dataset.boxes_of(0).xyxy.tolist() == [[1, 2, 9, 7]]
    assert dataset.notes == ("No attribute of the regions is defined: their class is 'object'.",)
    assert not dataset.findings


def test_regions_of_no_attribute_are_one_class(tmp_path):
    write_image(tmp_path / "a.jpg")
    content = {"a.jpg9": entry(region())}
    declared = {"region": {}, "file": {}}
    file = write_json(tmp_path / "p.json", {"_via_img_metadata": content, "_via_attributes": declared})
    _all_of_one_class(read_as(tmp_path, "auto"))
    write_json(file, content)
    _all_of_one_class(read_as(tmp_path, "auto"))
    write_json(file, {"a.jpg9": {"filename": "a.jpg", "regions": {"0": region()}, "file_attributes": {}}})
    _all_of_one_class(read_as(tmp_path, "auto"))
    declared = {"region": {"class": {"type": "text", "description": "", "default_value": ""}}}
    write_json(file, {"_via_img_metadata": content, "_via_attributes": declared})
    with pytest.raises(AnnotationError, match="no region has an attribute that is set"):
        read_as(tmp_path, "auto")


def test_rows_and_views_of_no_attribute_are_one_class(tmp_path):
    table = export_via_csv(tmp_path / "csv", MADE) / "via_export_csv.csv"
    with table.open(newline="") as stream:
        rows = list(csv.reader(stream))
    at = rows[0].index("region_attributes")
    with table.open("w", newline="") as stream:
        csv.writer(stream).writerows([rows[0], *([*row[:at], "{}", *row[at + 1 :]] for row in rows[1:])])
    _all_of_one_class(read_as(tmp_path / "csv", "auto"))
    file = export_via3(tmp_path / "3", MADE, ["pit"]) / "via3.json"
    project = json.loads(file.read_text())
    project["attribute"] = {"1": {"aname": "camera", "anchor_id": "FILE1_Z0_XY0", "type": 1, "options": {}}}
    for one_region in project["metadata"].values():
        one_region["av"] = {}
    write_json(file, project)
    _all_of_one_class(read_as(tmp_path / "3", "auto"))


def test_order_of_classes_is_that_of_the_options(tmp_path):
    images = [Made("a.png", 8, 8, [("dent", (1, 1, 5, 5)), ("pit", (1, 1, 5, 5)), ("new", (1, 1, 2, 2))])]
    assert read_as(export_via(tmp_path, images, ["pit", "dent", "none"]), "auto").class_names == (
        "pit",
        "dent",
        "none",
        "new",
    )


def test_an_export_beside_its_project_counts_once(tmp_path):
    export_via(tmp_path, MADE, ["pit"])
    write_json(tmp_path / "via_export_json.json", via_entries(MADE))
    export_via_csv(tmp_path, MADE)
    dataset = read_as(tmp_path, "auto")
    assert (dataset.num_images, dataset.num_boxes) == (2, 1)
    assert len(dataset.notes) == 2
    assert "has the same regions as via_project" in dataset.notes[0]
    assert not dataset.findings


def test_several_files_are_read(tmp_path):
    images = [Made("0.png", 8, 8, [("a", (1, 1, 5, 5))], split) for split in ("train", "val")]
    dataset = read_as(export_via(tmp_path, images, ["a"]), "auto")
    assert dataset.column("key") == ["train/0.png", "val/0.png"]
    assert dataset.split_counts() == {"train": 1, "val": 1}
    flat = tmp_path / "flat"
    for name in ("train", "val"):
        write_image(flat / f"images/{name}.jpg", seed=len(name))
        write_json(flat / f"via_{name}.json", {"x": entry(region(a="pit"), name=f"{name}.jpg")})
    dataset = read_as(flat, "auto")
    assert dataset.split_counts() == {"train": 1, "val": 1}
    (flat / "via_val.json").unlink()
    assert read_as(flat, "auto").split_counts() == {"": 1}


@pytest.mark.parametrize(
    ("file", "written", "base"),
    [
        ("p.json", "a.jpg", "./images/"),
        ("p.json", "a.jpg", ""),
        ("labels/p.json", "../images/a.jpg", ""),
        ("labels/p.json", "a.jpg", "..\\images"),
        ("labels/p.json", "a.jpg", ""),
        ("p.json", "images\\a.jpg", ""),
        ("p.json", "http://host/data/images/a.jpg", ""),
        ("p.json", "https://host/0/a.jpg", ""),
        ("labels/p.json", "https://host/x/a.jpg?size=9#top", ""),
        ("p.json", "https://host/some%20where/%61.jpg", "./images/"),
        ("p.json", "gs://bucket/a.jpg", ""),
    ],
)
def test_where_images_lie(tmp_path, file, written, base):
    write_image(tmp_path / "images/a.jpg")
    settings_ = {"core": {"default_filepath": base}}
    project = {"_via_settings": settings_, "_via_img_metadata": {"a": entry(region(a="pit"), name=written)}}
    write_json(tmp_path / file, project)
    dataset = read_as(tmp_path, "auto")
    assert dataset.column("key") == ["images/a.jpg"]
    assert not dataset.findings


@pytest.mark.parametrize("written", ["/etc/passwd", "C:\\a.jpg", "\\\\host\\a.jpg", "../a.jpg", "x/../../a.jpg"])
def test_paths_lead_nowhere_else(tmp_path, written):
    write_image(tmp_path / "a.jpg")
    write_json(tmp_path / "data/via.json", {"a": entry(region(a="pit"), name=written)})
    dataset = read_as(tmp_path / "data", "auto")
    assert (dataset.num_images, codes(dataset)) == (0, [Code.UNSAFE_NAME])


def test_table(tmp_path):
    dataset = read_as(export_via_csv(tmp_path, MADE), "auto")
    assert dataset.column("key") == ["a.png", "b.png"]
    assert dataset.boxes_of(0).xyxy.tolist() == [[1, 2, 9, 7]]
    assert dataset.boxes.column("source_id").to_pylist() == ["via_export_csv.csv:2"]
    file = tmp_path / "via_export_csv.csv"
    text = "#" + file.read_text()  # VIA 1
    file.write_text(text)
    assert read_as(tmp_path, "via").num_boxes == 1
    file.write_text(text + 'b.png,1,"{}",1,0,"{""name"":",""\n')
    dataset = read_as(tmp_path, "via")
    assert [(f.code, f.where) for f in dataset.findings] == [(Code.BAD_BOX, "via_export_csv.csv:4")]
    file.write_text(text + "b.png,1\n")
    with pytest.raises(AnnotationError, match=r"csv:4: has 2 cells"):
        read_as(tmp_path, "via")


def test_table_of_via_3_is_refused_by_name(tmp_path):
    write_image(tmp_path / "a.jpg")
    head = "# Exported using VGG Image Annotator Version (http://www.robots.ox.ac.uk/~vgg/software/via)\n"
    (tmp_path / "via.csv").write_text(head + '# CSV_HEADER = metadata_id,file_list\n"1_x","[""a.jpg""]"\n')
    for format_ in ("auto", "via"):
        with pytest.raises(AnnotationError, match="CSV of VIA 3 is not read"):
            read_as(tmp_path, format_)


def test_projects_of_via_3(tmp_path):
    images = [*MADE, Made("c.png", 20, 16, [("dent", (1, 1, 4, 4))])]
    export_via3(tmp_path, images, ["pit", "dent"])
    file = tmp_path / "via3.json"
    project = json.loads(file.read_text())
    shapes = {"p": [7, 1, 1, 5, 2, 3, 9], "e": [8, 1, 2, 5, 1, 9, 4, 4, 8], "o": [3, 10, 8, 2], "x": [1, 4, 4]}
    for key, xy in shapes.items():
        project["metadata"][key] = {"vid": "2", "flg": 0, "z": [], "xy": xy, "av": {"1": "1"}}
    project["metadata"]["whole"] = {"vid": "1", "flg": 0, "z": [], "xy": [], "av": {"1": "1"}}
    project["metadata"]["lost"] = {"vid": "99", "flg": 0, "z": [], "xy": [2, 1, 1, 2, 2], "av": {"1": "1"}}
    file.write_text(json.dumps(project))
    dataset = read_as(tmp_path, "auto")
    assert dataset.class_names == ("pit", "dent")
    assert dataset.boxes_of(0).xyxy.tolist() == [[1, 2, 9, 7]]
    assert dataset.boxes_of(1).xyxy.tolist() == [[1, 1, 5, 9], [1, 1, 9, 8], [8, 6, 12, 10]]
    assert [(f.code, f.where) for f in dataset.findings] == [(Code.UNKNOWN_IMAGE, "via3.json: metadata lost")]
    assert any("1 x point" in note for note in dataset.notes)
    assert any("attributes of 1 image as a whole" in note for note in dataset.notes)


def test_images_without_a_file_or_a_name(tmp_path):
    write_json(tmp_path / "via.json", {"a": entry(region(a="pit")), "b": {"regions": []}})
    dataset = read_as(tmp_path, "auto")
    assert sorted((f.code, f.where) for f in dataset.findings) == [
        (Code.MISSING_IMAGE, "via.json: image 1"),
        (Code.UNKNOWN_IMAGE, "via.json: image 2"),
    ]


def test_nothing_to_read(tmp_path):
    write_json(tmp_path / "a.json", {"filename": "x", "regions": 1})
    with pytest.raises(AnnotationError, match="is of VGG Image Annotator"):
        read_as(tmp_path, "via")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(AnnotationError, match="not valid JSON"):
        read_as(tmp_path, "via")
    write_json(tmp_path / "a.json", {"_via_img_metadata": {}})
    with pytest.raises(DataError, match="holds no images"):
        read_as(tmp_path, "auto")


@pytest.mark.parametrize("export", [export_via, export_via3, export_via_csv])
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=made_images(), data=st.data())
def test_round_trip(tmp_path_factory, export, made, data):
    images, classes = made
    order = data.draw(st.permutations(classes))
    dataset = read_as(export(tmp_path_factory.mktemp("via"), images, order), "auto")
    assert dataset.class_names == tuple(sorted(order) if export is export_via_csv else order)
    assert_read_back(dataset, images, "{split}/{name}")
    assert not dataset.findings


@pytest.mark.parametrize("export", [export_via, export_via3])
def test_fuzz(tmp_path, export):
    images = [Made(f"{i}.png", 8, 8, [("a", (1.0, 1.0, 5.0, 6.25)), ("b", (1, 2, 3, 4))]) for i in range(3)]
    export(tmp_path, images, ["b", "a"])
    fuzz_file(tmp_path, next(tmp_path.glob("*.json")), "via")


def test_fuzz_cells(tmp_path):
    export_via_csv(tmp_path, [Made("0.png", 8, 8, [("a", (1.0, 1.0, 5.0, 6.25))])])
    file = tmp_path / "via_export_csv.csv"
    with file.open(newline="") as stream:
        header, row = csv.reader(stream)
    for cell in (
        "",
        "{",
        "[]",
        "null",
        "NaN",
        '{"name": "rect", "x": NaN}',
        '{"a": {"b": []}}',
        "9" * 5000,
        "[" * 5000,
    ):
        for i in range(len(row)):
            with file.open("w", newline="") as stream:
                csv.writer(stream).writerows([header, [*row[:i], cell, *row[i + 1 :]]])
            with contextlib.suppress(DataError):
                read_as(tmp_path, "via")
