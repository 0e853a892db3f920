"""Unsupported formats are refused by name, and never read as another format."""

from __future__ import annotations

import pytest

from tests.helpers.datasets import read_as, write_image, write_json
from tests.helpers.foreign import FOREIGN, write_foreign
from tests.helpers.mutations import fuzz_file
from visionops.errors import AnnotationError


@pytest.mark.parametrize("name", FOREIGN)
def test_it_is_refused_by_its_name(tmp_path, name):
    write_foreign(tmp_path, name)
    with pytest.raises(AnnotationError) as refusal:
        read_as(tmp_path, "auto")
    said = str(refusal.value)
    assert FOREIGN[name][2] in said
    assert "which is not read; " in said
    assert "\n" not in said


def test_class_folders_are_read_where_the_configuration_says_so(tmp_path):
    write_foreign(tmp_path, "coco results below folders")
    with pytest.raises(AnnotationError, match=r"set data\.format: folders to read image folders, 2 classes$"):
        read_as(tmp_path, "auto")
    dataset = read_as(tmp_path, "folders")
    assert dataset.attributes[0].class_names == ("left", "right")


@pytest.mark.parametrize(
    "content", [{"0": "pit", "1": "ok"}, {"title": "Castings", "licenses": [{"name": "CC0-1.0"}]}, ["ok", "pit"]]
)
def test_other_json_beside_class_folders_is_no_label(tmp_path, content):
    for i, place in enumerate(("ok/a.png", "ok/b.png", "pit/c.png")):
        write_image(tmp_path / place, seed=i)
    write_json(tmp_path / "dataset-metadata.json", content)
    dataset = read_as(tmp_path, "auto")
    assert dataset.attributes[0].class_names == ("ok", "pit")
    assert "1 file that may hold labels not read (dataset-metadata.json): folders are classes." in dataset.notes


def test_a_table_is_read_where_the_configuration_names_it(tmp_path):
    write_foreign(tmp_path, "points")
    assert read_as(tmp_path, "auto", table="t.csv").attributes[0].class_names == ("dent", "pit")
    assert read_as(tmp_path, "table", table="t.csv", labels={"label": {"classes": {"pit": ["pit"], "dent": ["dent"]}}})


def test_a_class_may_be_called_after_masks(tmp_path):
    for i, place in enumerate(("with_mask/a.png", "without_mask/a.png", "mask_worn_wrong/a.png")):
        write_image(tmp_path / place, seed=i)
    assert read_as(tmp_path, "auto").attributes[0].class_names == ("mask_worn_wrong", "with_mask", "without_mask")


def test_a_supported_format_takes_precedence(tmp_path):
    write_foreign(tmp_path, "vott")
    (tmp_path / "vott-export.csv").write_text(
        '"image","xmin","ymin","xmax","ymax","label"\n"a.jpg",20,10,60,50,"pit"\n'
    )
    dataset = read_as(tmp_path, "auto")
    assert dataset.boxes_of(0).xyxy.tolist() == [[20, 10, 60, 50]]


@pytest.mark.parametrize(
    "name", ["kitti", "supervisely", "ground truth", "create ml below folders", "labelbox csv", "mot", "wider face"]
)
def test_damage_ends_in_a_data_set_or_one_line(tmp_path, name):
    write_foreign(tmp_path, name)
    for place in FOREIGN[name][1]:
        fuzz_file(tmp_path, tmp_path / place, "auto", 40)


def test_large_files_are_known_by_their_heads(tmp_path):
    for i, place in enumerate(("left/a.jpg", "right/b.jpg")):
        write_image(tmp_path / place, seed=i)
    boxes = [{"bbox": [1, 2, 3, 4], "score": 0.25}] * 12_000
    write_json(tmp_path / "x.json", {"a.jpg": boxes, "b.jpg": boxes})
    assert (tmp_path / "x.json").stat().st_size > 1 << 19
    with pytest.raises(AnnotationError, match="a file of boxes or shapes, by the images it names"):
        read_as(tmp_path, "auto")


def test_lists_of_images_beside_class_folders_are_no_labels(tmp_path):
    for i, place in enumerate(("ok/a.png", "ok/b.png", "pit/c.png")):
        write_image(tmp_path / place, seed=i)
    (tmp_path / "train.txt").write_text("ok/a.png 0\npit/c.png 1\n")
    (tmp_path / "readme.txt").write_text("Boxes of parts, see 'ok/a.png'.\n\nBounding boxes are not in it.\n")
    write_json(tmp_path / "meta" / "train.json", {"ok": ["ok/a", "ok/b"], "pit": ["pit/c"]})
    assert read_as(tmp_path, "auto").attributes[0].class_names == ("ok", "pit")
