from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.datasets import coco, read_as, write_image, write_json, write_taco, write_vision
from visionops.data.dataset import Dataset, Split
from visionops.data.findings import Code
from visionops.data.formats import read_dataset
from visionops.data.settings import DataConfig, FolderSource
from visionops.errors import AnnotationError, DataError


def read(root: Path, format_: str = "vision", **data) -> Dataset:
    source = FolderSource(kind="folder", path=root)
    return read_dataset(root, DataConfig(source=source, format=format_, **data), "made-up")


def one(root: Path, content) -> Dataset:
    write_json(root / "annotations.json", content)
    return read(root, "coco")


def codes(dataset: Dataset) -> list[Code]:
    return [finding.code for finding in dataset.findings]


@pytest.fixture
def simple(tmp_path):
    """Two images, one box each."""
    for i, name in enumerate(("a.jpg", "b.jpg")):
        write_image(tmp_path / name, seed=i)
    return coco(["a.jpg", "b.jpg"], {"a.jpg": [("pit", (1, 2, 3, 4))], "b.jpg": [("pit", (0, 0, 20, 16))]}, ["pit"])


class TestVision:
    def test_reads_splits_classes_and_boxes(self, tmp_path):
        dataset = read(write_vision(tmp_path, ("Cable", "Wood")))
        assert dataset.split_counts() == {"train": 8, "val": 8, "unlabelled": 8}
        assert dataset.class_names == ("Scratch", "pit")
        assert dataset.num_boxes == 24
        row = dataset.column("key").index("Cable/val/000001.jpg")
        assert dataset.boxes_of(row).xyxy.tolist() == [[1, 2, 7, 8], [0, 0, 3, 3]]
        assert dataset.boxes_of(row).class_ids.tolist() == [0, 1]
        assert Path(dataset.column("path")[row]).is_absolute()
        assert dataset.column("num_bytes")[row] == (tmp_path / "Cable/val/000001.jpg").stat().st_size
        assert (dataset.column("width")[row], dataset.column("height")[row]) == (20, 16)
        assert not dataset.findings
        assert any("'scratch' is merged with 'Scratch'" in note for note in dataset.notes)

    def test_takes_a_subset_of_products_and_categories(self, tmp_path):
        write_vision(tmp_path, ("Cable", "Wood"))
        dataset = read(tmp_path, products=("Wood",), categories=("PIT",))
        assert dataset.class_names == ("pit",)
        assert dataset.num_images == 12
        assert dataset.num_boxes == 6
        assert set(dataset.box_arrays()[1]) == {0}

    def test_a_product_folder_is_a_root_too(self, tmp_path):
        dataset = read(write_vision(tmp_path) / "Cable", products=("Cable",))
        assert dataset.column("key")[0] == "train/000000.jpg"

    def test_inference_with_annotations_is_test(self, tmp_path):
        write_vision(tmp_path)
        content = (tmp_path / "Cable/val/_annotations.coco.json").read_text()
        (tmp_path / "Cable/inference/_annotations.coco.json").write_text(content)
        dataset = read(tmp_path)
        assert dataset.split_counts() == {"train": 4, "val": 4, "test": 4}
        assert any("taken as the test split" in note for note in dataset.notes)

    def test_inference_without_a_file_is_unlabelled(self, tmp_path):
        write_vision(tmp_path)
        (tmp_path / "Cable/inference/_annotations.coco.json").unlink()
        assert read(tmp_path).split_counts()["unlabelled"] == 4

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ({"products": ("cabel",)}, "no product 'cabel'; did you mean 'Cable'"),
            ({"products": ("Xyz",)}, "there are: Cable"),
            ({"categories": ("scrach",)}, "no class 'scrach'; did you mean 'Scratch'"),
            ({"categories": ("qqqq",)}, "known: Scratch, pit"),
        ],
    )
    def test_names_what_is_not_there(self, tmp_path, data, message):
        with pytest.raises(DataError, match="data") as error:
            read(write_vision(tmp_path), **data)
        assert message in str(error.value)

    def test_missing_folder_layout_and_annotation_file(self, tmp_path):
        with pytest.raises(DataError, match=r"no such folder; set data\.source\.path"):
            read(tmp_path / "absent")
        with pytest.raises(AnnotationError, match="check data"):
            read(tmp_path)
        write_vision(tmp_path)
        (tmp_path / "Cable/val/_annotations.coco.json").unlink()
        with pytest.raises(AnnotationError, match=r"val/_annotations\.coco\.json: not found, though 4 images"):
            read(tmp_path)

    def test_no_images_at_all(self, tmp_path):
        write_json(tmp_path / "P/train/_annotations.coco.json", coco([], {}, ["pit"]))
        with pytest.raises(DataError, match="holds no images"):
            read(tmp_path)

    @pytest.mark.real_data
    def test_steel_matches_plain_arithmetic(self, real_data):
        dataset = read(real_data / "vision", products=("Steel",))
        assert not dataset.findings
        truth = {}
        for split in ("train", "val"):
            raw = json.loads((real_data / f"vision/Steel/{split}/_annotations.coco.json").read_text())
            names = {i["id"]: f"Steel/{split}/{i['file_name']}" for i in raw["images"]}
            classes = {c["id"]: c["name"] for c in raw["categories"]}
            for a in raw["annotations"]:
                x, y, w, h = a["bbox"]
                truth.setdefault(names[a["image_id"]], []).append((classes[a["category_id"]], x, y, x + w, y + h))
        keys = dataset.column("key")
        found = {}
        for row, class_id, xyxy in zip(*dataset.box_arrays(), strict=True):
            found.setdefault(keys[row], []).append((dataset.class_names[class_id], *xyxy.tolist()))
        assert found == truth
        assert dataset.split_counts() == {"train": 1260, "val": 270, "unlabelled": 270}
        assert dataset.num_boxes == 2973 + 604


class TestOneFile:
    def test_taco_shape(self, tmp_path):
        dataset = read(write_taco(tmp_path), "coco")
        assert dataset.split_counts() == {"": 7}
        assert dataset.class_names == ("Bottle", "Can")
        assert not dataset.findings, "boxes out of bounds are the validation's to judge"
        assert dataset.boxes_of(0).xyxy.tolist() == [[-2.5, 3, 7.5, 23], [15.25, -1, 24.25, 8.5], [30, 30, 35, 35]]

    def test_images_may_lie_below_root(self, tmp_path, simple):
        write_json(tmp_path / "labels" / "all.json", simple)
        dataset = read(tmp_path, "coco", annotations="labels/all.json")
        assert dataset.column("path")[0] == str(tmp_path / "a.jpg")

    def test_crowds_are_left_out_and_said_so(self, tmp_path, simple):
        simple["annotations"][0] |= {"iscrowd": 1, "segmentation": {"counts": [1]}, "bbox": None}
        dataset = one(tmp_path, simple)
        assert dataset.num_boxes == 1
        assert "1 crowd annotation (iscrowd) left out" in dataset.notes[0]
        assert codes(dataset) == [Code.CROWD_ONLY]
        assert dataset.findings[0].images == ("a.jpg",)
        assert dataset.column("key") == ["b.jpg"], "an object must not teach background"

    def test_classes_of_whole_images_are_no_boxes(self, tmp_path, simple):
        for annotation in simple["annotations"]:
            del annotation["bbox"]
        with pytest.raises(AnnotationError, match="classes of whole images; sort the images into a folder per class"):
            one(tmp_path, simple)
        simple["annotations"] = [{"image_id": 0, "file_name": "a.png", "segments_info": [{"id": 5, "category_id": 1}]}]
        with pytest.raises(AnnotationError, match="COCO panoptic holds segments, not objects"):
            one(tmp_path, simple)

    def test_key_points_have_boxes(self, tmp_path, simple):
        simple["annotations"][0] |= {"keypoints": [3, 4, 2], "num_keypoints": 1}
        simple["categories"][0] |= {"keypoints": ["tip"], "skeleton": []}
        dataset = one(tmp_path, simple)
        assert (dataset.num_boxes, dataset.findings) == (2, ())

    def test_images_of_lvis_have_urls_only(self, tmp_path, simple):
        for i, image in enumerate(simple["images"]):
            image["coco_url"] = f"http://images.cocodataset.org/train2017/{image.pop('file_name')}"
            write_image(tmp_path / "train2017" / f"{'ab'[i]}.jpg", seed=i)
        write_json(tmp_path / "lvis_v1_train.json", simple)
        dataset = read(tmp_path, "coco")
        assert dataset.column("key") == ["train2017/a.jpg", "train2017/b.jpg"]
        assert dataset.num_boxes == 2

    def test_crowds_may_be_objects(self, tmp_path, simple):
        simple["annotations"][0] |= {"iscrowd": 1}
        write_json(tmp_path / "annotations.json", simple)
        dataset = read(tmp_path, "coco", crowds="objects")
        assert (dataset.num_images, dataset.num_boxes, dataset.findings) == (2, 2, ())

    def test_a_polygon_gives_the_box(self, tmp_path, simple):
        del simple["annotations"][0]["bbox"]
        simple["annotations"][0]["segmentation"] = [[1, 2, 5, 2, 5, 9], [], [0.5, 3, 4, 4, 1, 1]]
        assert one(tmp_path, simple).boxes_of(0).xyxy.tolist() == [[0.5, 1, 5, 9]]

    def test_degenerate_boxes_stay(self, tmp_path, simple):
        simple["annotations"][0]["bbox"] = [3, 3, 0, 2]
        dataset = one(tmp_path, simple)
        assert dataset.boxes_of(0).xyxy.tolist() == [[3, 3, 3, 5]]
        assert not dataset.findings

    @pytest.mark.parametrize(
        "box", [[math.nan, 0, 1, 1], [0, 0, math.inf, 1], [0, 0, -1, 2], [1e308, 0, 1e308, 1], [10**400, 0, 1, 1]]
    )
    def test_bad_boxes(self, tmp_path, simple, box):
        simple["annotations"][0] |= {"id": 31, "bbox": box}
        dataset = one(tmp_path, simple)
        assert codes(dataset) == [Code.BAD_BOX]
        assert dataset.findings[0].where == "annotations.json: annotation 31"
        assert dataset.findings[0].images == ("a.jpg",)
        assert dataset.num_boxes == 1

    @pytest.mark.parametrize("segmentation", [None, [], [[]], {"counts": "abc"}, [[math.nan, 1, 2, 2]]])
    def test_neither_box_nor_polygon(self, tmp_path, simple, segmentation):
        simple["annotations"][0] |= {"bbox": [], "segmentation": segmentation}
        dataset = one(tmp_path, simple)
        assert codes(dataset) == [Code.BAD_BOX]
        assert "no box, polygon or mask" in dataset.findings[0].message

    def test_unknown_image_and_category(self, tmp_path, simple):
        simple["annotations"][0]["image_id"] = 7
        simple["annotations"][1]["category_id"] = "x"
        dataset = one(tmp_path, simple)
        assert codes(dataset) == [Code.UNKNOWN_IMAGE, Code.UNKNOWN_CATEGORY]
        assert "refers to image 7, which is not in" in dataset.findings[0].message
        assert dataset.num_boxes == 0

    @pytest.mark.parametrize(
        "name", ["../a.jpg", "/etc/a.jpg", "x/../../a.jpg", "c:\\a.jpg", "", "a\n.jpg", "\\\\host\\a.jpg", "."]
    )
    def test_unsafe_names(self, tmp_path, simple, name):
        simple["images"][0]["file_name"] = name
        dataset = one(tmp_path, simple)
        assert codes(dataset) == [Code.UNSAFE_NAME, Code.ORPHAN_IMAGE]
        assert dataset.column("key") == ["b.jpg"]
        assert dataset.num_boxes == 1, "the boxes of an image that was left out are no findings of their own"

    def test_harmless_names_are_made_normal(self, tmp_path, simple):
        simple["images"][0]["file_name"] = ".//a.jpg"
        assert one(tmp_path, simple).column("key") == ["a.jpg", "b.jpg"]

    def test_duplicate_ids_and_names(self, tmp_path, simple):
        simple["images"] += [{"id": 0, "file_name": "b.jpg"}, {"id": 5, "file_name": "a.jpg"}]
        simple["annotations"] += [{"id": 1, "image_id": 5, "category_id": 0, "bbox": [1, 1, 1, 1]}]
        simple["categories"] += [{"id": 0, "name": "other"}]
        dataset = one(tmp_path, simple)
        assert codes(dataset) == [Code.DUPLICATE_ID, Code.DUPLICATE_ID, Code.DUPLICATE_NAME]
        assert dataset.column("key") == ["a.jpg", "b.jpg"]
        assert len(dataset.boxes_of(0).xyxy) == 2
        assert dataset.class_names == ("pit",)
        assert any("1 annotation id repeats (1)" in note for note in dataset.notes)

    def test_missing_and_orphan_images(self, tmp_path, simple):
        (tmp_path / "a.jpg").rename(tmp_path / "A.JPG")
        (tmp_path / "b.jpg").unlink()
        write_image(tmp_path / "sub/c.png")
        write_image(tmp_path / "sub/d.png")
        (tmp_path / ".hidden.jpg").touch()
        dataset = one(tmp_path, simple)
        found = {(f.code, f.images): f for f in dataset.findings}
        assert set(found) == {
            (Code.MISSING_IMAGE, ("b.jpg",)),
            (Code.ORPHAN_IMAGE, ("sub/c.png", "sub/d.png")),
            (Code.SYSTEM_FILE, ()),
        }
        assert "(2 files: sub/c.png, sub/d.png)" in found[Code.ORPHAN_IMAGE, ("sub/c.png", "sub/d.png")].message
        assert any("upper and lower case (a.jpg is A.JPG)" in note for note in dataset.notes)
        assert dataset.column("key") == ["A.JPG", "b.jpg"]
        assert dataset.column("path")[1] == ""
        assert dataset.column("num_bytes")[1] == -1

    def test_sizes_may_be_undeclared(self, tmp_path, simple):
        del simple["images"][0]["width"]
        assert one(tmp_path, simple).column("width") == [0, 20]

    def test_annotation_without_id_is_named_by_its_number(self, tmp_path, simple):
        del simple["annotations"][1]["id"]
        simple["annotations"][1]["bbox"][2] = -1
        assert one(tmp_path, simple).findings[0].where == "annotations.json: annotation #2"

    def test_no_annotations(self, tmp_path, simple):
        simple["annotations"] = []
        assert one(tmp_path, simple).num_boxes == 0

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda d: d.pop("images"), 'lacks "images"'),
            (lambda d: d.pop("annotations"), 'lacks "annotations"'),
            (lambda d: d.pop("categories"), 'lacks "categories"'),
            (lambda d: d.update(images={}), '"images" must be a list, but is a object'),
            (lambda d: d["images"].append(3), '"images"[2] must be an object, but is a number'),
            (lambda d: d["images"][0].pop("id"), 'image #1 lacks "id"'),
            (lambda d: d["images"][1].update(id=[]), '"id" must be a number or string, but is a list'),
            (lambda d: d["images"][0].update(file_name=3), '"file_name" must be a string'),
            (lambda d: d["images"][0].update(width="20"), "\"width\": '20'"),
            (lambda d: d["images"][0].update(width=-1), '"width": -1'),
            (lambda d: d["images"][0].update(height=math.inf), '"height": inf'),
            (lambda d: d["images"][0].update(height=2**40), '"height"'),
            (lambda d: d["categories"][0].update(name=None), 'category #1 "name" must be a string, but is a null'),
            (lambda d: d["annotations"][0].pop("image_id"), 'annotation 0 lacks "image_id"'),
            (lambda d: d["annotations"][0].update(category_id={}), '"category_id" must be'),
            (lambda d: d["annotations"][0].update(bbox=[1, 2, 3]), 'annotation 0: "bbox" must be four numbers'),
            (lambda d: d["annotations"][0].update(bbox=[1, 2, 3, "4"]), '"bbox" must be four numbers'),
            (lambda d: d["annotations"][0].update(bbox=[1, 2, 3, None]), '"bbox" must be four numbers'),
            (lambda d: d["annotations"][1].update(bbox={"x": 1}), 'annotation 1: "bbox" must be four numbers'),
            (lambda d: d["annotations"][0].update(bbox=[], segmentation=[[1, 2, 3]]), '"segmentation" must be'),
            (lambda d: d["annotations"][0].update(bbox=[], segmentation=["x"]), '"segmentation" must be'),
        ],
    )
    def test_malformed_files(self, tmp_path, simple, change, message):
        change(simple)
        with pytest.raises(AnnotationError) as error:
            one(tmp_path, simple)
        assert message in str(error.value)
        assert "annotations.json" in str(error.value)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe\xff", b"<xml/>", b"[" * 200_000, b'{"images": 1'])
    def test_not_json(self, tmp_path, data):
        (tmp_path / "annotations.json").write_bytes(data)
        with pytest.raises(AnnotationError, match="not valid JSON"):
            read(tmp_path, "coco")

    def test_not_an_object_not_there_not_a_file(self, tmp_path):
        with pytest.raises(AnnotationError, match="must be a COCO object, but is a list"):
            one(tmp_path, [])
        with pytest.raises(
            AnnotationError, match=r"not found; set data\.annotations \(JSON files in .*: annotations.json"
        ):
            read(tmp_path, "coco", annotations="x.json")
        (tmp_path / "folder.json").mkdir()
        with pytest.raises(AnnotationError, match="not found"):
            read(tmp_path, "coco", annotations="folder.json")

    def test_order_of_annotations_does_not_matter_to_the_content(self, tmp_path, simple):
        first = one(tmp_path, simple).fingerprint()
        simple["annotations"].reverse()
        assert one(tmp_path, simple).fingerprint() == first
        assert np.isfinite(one(tmp_path, simple).box_arrays()[2]).all()
        assert one(tmp_path, simple).column("split") == [Split.NONE.value] * 2


def test_whole_numbers_are_pixels_however_small(tmp_path):
    write_image(tmp_path / "a.png")
    write_json(tmp_path / "a.json", coco(["a.png"], {"a.png": [("x", (0, 0, 1, 1))]}, ["x"]))
    assert read_as(tmp_path, "coco").box_arrays()[2].tolist() == [[0, 0, 1, 1]]
