"""YOLO exports of tools: round trips, layouts that were seen or are likely, and mutations of them."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers.datasets import read_as
from tests.helpers.exports import Made, write_made
from tests.helpers.exports_yolo import EXPORTS, export_cvat_yolo, export_labelimg_yolo, export_ultralytics
from visionops.data.dataset import Dataset
from visionops.data.findings import Code
from visionops.data.formats.assembly import fold_name
from visionops.errors import AnnotationError, DataError

BOX = "0 0.5 0.5 0.5 0.25\n"
MADE = [
    Made("a.jpg", 96, 64, [("pit", (20, 10, 50, 40))], "train"),
    Made("b.jpg", 64, 96, [("pit", (1, 2, 3, 4)), ("scratch", (0, 0, 64, 96))], "train"),
    Made("c.jpg", 96, 64, [], "train"),
    Made("d.jpg", 96, 64, [("scratch", (5, 5, 9, 9))], "valid"),
]


def write(root: Path, *texts: tuple[str, str]) -> Path:
    """Write files by name: 20 x 16 images for image names, else texts."""
    for name, text in texts:
        if name.lower().endswith((".jpg", ".png")):
            write_made(root / name, 20, 16)
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(text.encode())
    return root


def codes(dataset: Dataset) -> list[Code]:
    return [finding.code for finding in dataset.findings]


def boxes_by_name(dataset: Dataset) -> dict[str, tuple[list[str], np.ndarray]]:
    """Return a mapping of image names to their classes and boxes, in the order of lines."""
    found = {}
    for row, key in enumerate(dataset.column("key")):
        boxes = dataset.boxes_of(row)
        found[key.rpartition("/")[2]] = ([dataset.class_names[i] for i in boxes.class_ids.tolist()], boxes.xyxy)
    return found


names = st.text(st.characters(exclude_categories=("C", "Zl", "Zp"), exclude_characters="/\\"), min_size=1, max_size=12)
# "A:.png" in the top folder looks like a drive and is refused by all readers.
names = names.filter(lambda name: name.isprintable() and name[0] != "." and name[1:2] != ":")


@st.composite
def collections(draw) -> tuple[list[Made], list[str]]:
    """Draw images with any printable names that differ in more than case; classes likewise."""
    stems = draw(st.lists(names.map(str.strip).filter(bool), min_size=1, max_size=4, unique_by=fold_name))
    reserved = {"classes", "train", "valid", "names", "labels", "predefined_classes", "class_names"}
    stems = [
        f"{i}{stem}" if stem.casefold() in reserved or stem.startswith(".") else stem for i, stem in enumerate(stems)
    ]
    classes = draw(st.lists(names.map(str.strip).filter(bool), min_size=1, max_size=3, unique_by=fold_name))
    images = []
    for number, stem in enumerate(stems):
        width, height = draw(st.integers(8, 400)), draw(st.integers(8, 400))
        boxes = []
        for _ in range(draw(st.integers(1 if number == 0 else 0, 3))):
            xs = sorted(draw(st.tuples(st.floats(0, width), st.floats(0, width))))
            ys = sorted(draw(st.tuples(st.floats(0, height), st.floats(0, height))))
            boxes.append((draw(st.sampled_from(classes)), (xs[0], ys[0], xs[1], ys[1])))
        images.append(Made(f"{stem}.png", width, height, boxes, "train"))
    return images, classes


@pytest.mark.parametrize("export", EXPORTS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(made=collections())
def test_exports_are_read_back(export, made):
    images, classes = made
    with tempfile.TemporaryDirectory() as folder:
        root = export(Path(folder) / "x", images, classes)
        for format_ in ("yolo", "auto"):
            dataset = read_as(root, format_)
            assert dataset.class_names == tuple(classes)
            assert codes(dataset) == []
            found = boxes_by_name(dataset)
            assert set(found) == {image.name for image in images}
            for image in images:
                classes_found, xyxy = found[image.name]
                assert classes_found == [name for name, _ in image.boxes]
                expected = np.array([box for _, box in image.boxes]).reshape(-1, 4)
                np.testing.assert_allclose(xyxy, expected, atol=1e-4, rtol=0)


def test_splits_of_cvat_and_ultralytics(tmp_path):
    for export in (export_ultralytics, export_cvat_yolo):
        dataset = read_as(export(tmp_path / export.__name__, MADE, ["pit", "scratch"]), "auto")
        assert dataset.split_counts() == {"train": 3, "val": 1}
        assert dataset.class_names == ("pit", "scratch")
        np.testing.assert_allclose(dataset.boxes_of(0).xyxy, [[20, 10, 50, 40]], atol=1e-4)


YAML = "names: [pit]\n"
LAYOUTS = {
    "cvat_yolo_1_1_of_a_subset": (
        ("obj.data", "classes = 1\r\nTrain = data/Train.txt\r\nnames = data/obj.names\r\nbackup = backup/\r\n"),
        ("obj.names", "\ufeffpit\r\n"),
        ("Train.txt", "\ufeffdata/obj_Train_data/a.jpg\r\n\r\ndata\\obj_Train_data\\b.jpg\r\n"),
        ("obj_Train_data/a.jpg", ""),
        ("obj_Train_data/b.jpg", ""),
        ("obj_Train_data/a.txt", BOX),
        ("obj_Train_data/b.txt", BOX),
    ),
    "two_subsets_with_equal_names": (
        ("obj.data", "train = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\n"),
        ("obj.names", "pit\n"),
        ("train.txt", "data/obj_train_data/a.jpg\n"),
        ("valid.txt", "data/obj_valid_data/a.jpg\n"),
        ("obj_train_data/a.jpg", ""),
        ("obj_valid_data/a.jpg", ""),
        ("obj_train_data/a.txt", BOX),
        ("obj_valid_data/a.txt", BOX),
    ),
    "cvat_ultralytics_detection": (
        ("data.yaml", "names:\n  0: pit\npath: .\ntrain: train.txt\n"),
        ("train.txt", "data/images/train/a.jpg\ndata/images/train/b.jpg\n"),
        ("images/train/a.jpg", ""),
        ("images/train/b.jpg", ""),
        ("labels/train/a.txt", BOX),
        ("labels/train/b.txt", BOX),
    ),
    "lists_of_another_machine": (
        ("data.yaml", f"path: C:\\Users\\me\\sets\ntrain: train.txt\nVal: val.txt\n{YAML}"),
        ("train.txt", "C:\\Users\\me\\sets\\images\\a.jpg\n"),
        ("val.txt", "/content/sets/images/b.jpg\n"),
        ("images/a.jpg", ""),
        ("images/b.jpg", ""),
        ("labels/a.txt", BOX),
        ("labels/b.txt", BOX),
    ),
    "folders_of_another_machine": (
        ("data.yaml", f"train: /content/datasets/x/train/images\nval: C:\\x\\valid\\images\n{YAML}"),
        ("train/images/a.jpg", ""),
        ("valid/images/b.jpg", ""),
        ("train/labels/a.txt", BOX),
        ("valid/labels/b.txt", BOX),
    ),
    "path_below_the_root": (
        (
            "coco8.yaml",
            "path: ../datasets/coco8\ntrain: images/train\nval: images/val\ntest:\nNAMES: {0: pit}\nNC: 1\n",
        ),
        ("coco8/images/train/a.jpg", ""),
        ("coco8/images/val/b.jpg", ""),
        ("coco8/labels/train/a.txt", BOX),
        ("coco8/labels/val/b.txt", BOX),
    ),
    "yaml_one_folder_deeper": (
        ("export/data.yaml", f"train: ../train/images\nval: ../valid/images\n{YAML}"),
        ("export/train/images/a.jpg", ""),
        ("export/valid/images/b.jpg", ""),
        ("export/train/labels/a.txt", BOX),
        ("export/valid/labels/b.txt", BOX),
    ),
    "other_case": (
        ("data.yaml", f"train: images/train\nval: images/val\n{YAML}"),
        ("Images/Train/a.jpg", ""),
        ("Images/val/b.JPG", ""),
        ("Labels/Train/a.txt", BOX),
        ("Labels/val/b.TXT", BOX),
    ),
    "labelimg_in_a_folder_images": (
        ("images/a.jpg", ""),
        ("images/b.jpg", ""),
        ("images/a.txt", BOX),
        ("images/b.txt", BOX),
        ("images/classes.txt", "pit\n"),
        ("predefined_classes.txt", "dog\nperson\n"),
    ),
    "roboflow_darknet": (
        ("train/a.jpg", ""),
        ("valid/b.jpg", ""),
        ("train/a.txt", BOX),
        ("valid/b.txt", BOX),
        ("train/_darknet.labels", "pit"),
        ("valid/_darknet.labels", "pit"),
    ),
    "label_studio_with_notes_only": (
        ("notes.json", '{"categories": [{"id": 0, "name": "pit"}], "info": {"contributor": "Label Studio"}}'),
        ("images/a.jpg", ""),
        ("images/b.jpg", ""),
        ("labels/a.txt", BOX),
        ("labels/b.txt", BOX),
    ),
    "labels_with_an_upload_hash": (
        ("classes.txt", "pit"),
        ("images/a.jpg", ""),
        ("images/b.jpg", ""),
        ("labels/30fbb0c7-a.txt", BOX),
        ("labels/30fbb0c8-b.txt", BOX),
    ),
    "labels_in_one_folder": (
        ("classes.txt", "pit"),
        ("images/train/a.jpg", ""),
        ("images/val/b.jpg", ""),
        ("labels/a.txt", BOX),
        ("labels/b.txt", BOX),
    ),
    "a_tree_of_labels": (
        ("labels/classes.txt", "pit"),
        ("train/a.jpg", ""),
        ("val/b.jpg", ""),
        ("labels/train/a.txt", BOX),
        ("labels/val/b.txt", BOX),
    ),
    "darknet_jpegimages": (
        ("obj.names", "pit"),
        ("train.txt", "JPEGImages/a.jpg"),
        ("valid.txt", "JPEGImages/b.jpg"),
        ("JPEGImages/a.jpg", ""),
        ("JPEGImages/b.jpg", ""),
        ("labels/a.txt", BOX),
        ("labels/b.txt", BOX),
    ),
    "commas_and_tabs_and_a_class_with_a_point": (
        ("classes.txt", "pit"),
        ("images/a.jpg", ""),
        ("images/b.jpg", ""),
        ("labels/a.txt", "0.0\t0.5\t0.5\t0.5\t0.25\r\n"),
        ("labels/b.txt", "\ufeff0, 0.5, 0.5, 0.5, 0.25"),
    ),
    "numbers_of_tracks": (
        ("data.yaml", "train: images\nnames: [pit]\n"),
        ("images/a.jpg", ""),
        ("images/b.jpg", ""),
        ("labels/a.txt", "0 0.5 0.5 0.5 0.25 1\n"),
        ("labels/b.txt", "0 0.5 0.5 0.5 0.25 2\n"),
    ),
}


@pytest.mark.parametrize("format_", ["yolo", "auto"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path, layout, format_):
    dataset = read_as(write(tmp_path, *LAYOUTS[layout]), format_)
    assert codes(dataset) == []
    assert dataset.class_names == ("pit",)
    assert [boxes.xyxy.tolist() for boxes in dataset.boxes_by_image()] == [[[5, 6, 15, 10]]] * 2


def test_splits_of_layouts(tmp_path):
    both = {"train": 1, "val": 1}
    for layout in ("two_subsets_with_equal_names", "lists_of_another_machine", "folders_of_another_machine"):
        assert read_as(write(tmp_path / layout, *LAYOUTS[layout]), "yolo").split_counts() == both
    for layout in ("path_below_the_root", "roboflow_darknet", "a_tree_of_labels", "darknet_jpegimages"):
        assert read_as(write(tmp_path / layout, *LAYOUTS[layout]), "yolo").split_counts() == both


class TestNotes:
    def test_places_of_another_machine_are_said(self, tmp_path):
        dataset = read_as(write(tmp_path, *LAYOUTS["folders_of_another_machine"]), "yolo")
        assert "data.yaml: train: /content/datasets/x/train/images is found at train/images." in dataset.notes
        moved = read_as(write(tmp_path / "l", *LAYOUTS["lists_of_another_machine"]), "yolo")
        assert any("1 image found by the end of a path of another machine" in note for note in moved.notes)

    def test_a_place_that_lost_its_split_is_not_taken(self, tmp_path):
        texts = [("data.yaml", f"train: /x/train/images\nval: /x/valid/images\n{YAML}"), ("images/a.jpg", "")]
        with pytest.raises(AnnotationError, match="train: /x/train/images is outside"):
            read_as(write(tmp_path, *texts, ("labels/a.txt", BOX)), "yolo")

    def test_names(self, tmp_path):
        base = [("images/a.jpg", ""), ("labels/a.txt", "1 0.5 0.5 1 1")]
        dataset = read_as(write(tmp_path / "n", *base, ("data.yaml", "train: images\nnc: 2\n")), "yolo")
        assert dataset.class_names == ("class_0", "class_1")
        assert any("only nc: 2" in note for note in dataset.notes)
        with pytest.raises(AnnotationError, match="'names' must list"):
            read_as(write(tmp_path / "m", *base, ("data.yaml", "train: images\nnc: 100000000000\n")), "yolo")
        for names_, note in (("[pit, Pit]", "'Pit' is merged with 'pit'"), ("[pit, pit]", "are both 'pit'")):
            dataset = read_as(write(tmp_path, *base, ("data.yaml", f"train: images\nnames: {names_}\n")), "yolo")
            assert dataset.class_names == ("pit",)
            assert dataset.num_boxes == 1
            assert any(note in n for n in dataset.notes)

    def test_lists_of_names_that_continue_or_contradict(self, tmp_path):
        base = [("t/a.jpg", ""), ("t/a.txt", "1 0.5 0.5 1 1"), ("v/b.jpg", ""), ("v/b.txt", BOX)]
        texts = [*base, ("t/classes.txt", "pit\nscratch"), ("v/classes.txt", "pit")]
        dataset = read_as(write(tmp_path, *texts), "yolo")
        assert dataset.class_names == ("pit", "scratch")
        assert any("t/classes.txt has more classes than v/classes.txt" in note for note in dataset.notes)
        with pytest.raises(AnnotationError, match="list different classes"):
            read_as(write(tmp_path, ("v/classes.txt", "scratch")), "yolo")

    def test_images_without_labels_are_counted(self, tmp_path):
        dataset = read_as(export_labelimg_yolo(tmp_path, MADE, ["pit", "scratch"]), "yolo")
        assert "1 image without a label file, treated as without objects (c.jpg)." in dataset.notes


class TestLabelFiles:
    BASE = (("classes.txt", "pit"), ("images/a.jpg", ""), ("labels/a.txt", BOX))

    def test_images_beside_the_data_set_are_orphans(self, tmp_path):
        dataset = read_as(write(tmp_path, *self.BASE, ("preview/p.jpg", "")), "yolo")
        assert dataset.column("key") == ["images/a.jpg"]
        assert codes(dataset) == [Code.ORPHAN_IMAGE]

    def test_two_label_files_for_an_image(self, tmp_path):
        dataset = read_as(
            write(tmp_path, *self.BASE, ("images/a.txt", "0 0.1 0.1 0.1 0.1"), ("images/b.jpg", "")), "yolo"
        )
        assert codes(dataset) == [Code.AMBIGUOUS_NAME]
        assert "'labels/a.txt' and 'images/a.txt'" in dataset.findings[0].message
        assert dataset.column("key") == ["images/b.jpg"]
        (tmp_path / "images/a.txt").write_text(f"\n{BOX}")
        assert codes(read_as(tmp_path, "yolo")) == [], "a copy is no second one"
        (tmp_path / "images/a.txt").write_text("a caption")
        assert read_as(tmp_path, "yolo").num_boxes == 1

    def test_looks_that_are_the_same(self, tmp_path):
        texts = (("classes.txt", "pit"), ("images/\u00fc.jpg", ""), ("images/b.jpg", ""), ("labels/b.txt", BOX))
        dataset = read_as(write(tmp_path, *texts, ("labels/u\u0308.txt", BOX)), "yolo")
        assert dataset.num_boxes == 2, "NFD for NFC"
        dataset = read_as(write(tmp_path, ("labels/\u00fc.txt", BOX)), "yolo")
        assert codes(dataset) == [Code.AMBIGUOUS_NAME]

    def test_one_label_file_for_two_images(self, tmp_path):
        texts = (("classes.txt", "pit"), ("images/train/a.jpg", ""), ("images/val/a.jpg", ""), ("labels/a.txt", BOX))
        dataset = read_as(write(tmp_path, *texts, ("images/train/b.jpg", ""), ("labels/b.txt", BOX)), "yolo")
        assert codes(dataset) == [Code.AMBIGUOUS_NAME] * 2
        assert dataset.column("key") == ["images/train/b.jpg"]

    def test_labels_without_image(self, tmp_path):
        strays = (
            ("labels/x.txt", BOX),
            ("labels/y.txt", ""),
            ("images/train.txt", "images/a.jpg"),
            ("readme.txt", "hi"),
        )
        dataset = read_as(write(tmp_path, *self.BASE, *strays), "yolo")
        assert codes(dataset) == [Code.UNKNOWN_IMAGE]
        assert "2 files: labels/x.txt, labels/y.txt" in dataset.findings[0].message
        beside = export_labelimg_yolo(tmp_path / "b", MADE, ["pit", "scratch"])
        (beside / "a.jpg").unlink()
        assert [(f.code, f.where) for f in read_as(beside, "yolo").findings] == [(Code.UNKNOWN_IMAGE, "a.txt")]

    def test_no_labels_at_all(self, tmp_path):
        texts = (("data.yaml", f"train: images\n{YAML}"), ("images/a.jpg", ""), ("images/b.jpg", ""))
        with pytest.raises(AnnotationError, match=r"labels/a\.txt: not found, and no image has a label file"):
            read_as(write(tmp_path, *texts), "yolo")


def lines(root: Path, *rows: str, yaml: str = "train: images\nnames: [a, b]\n") -> Dataset:
    """Return a data set with one 20 x 16 image for each row."""
    for number, row in enumerate(rows):
        write(root, (f"images/{number}.jpg", ""), (f"labels/{number}.txt", row))
    return read_as(write(root, ("data.yaml", yaml)), "yolo")


def tilted(cx: float, cy: float, w: float, h: float, angle: float) -> str:
    """Return four corners of a rectangle in a 20 x 16 image."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2 @ turn.T + (cx, cy)
    return "0 " + " ".join(f"{value:.6f}" for value in (corners / (20, 16)).ravel())


def pose(cx: float, cy: float, w: float, h: float, *visibility: int) -> str:
    points = [(cx + w * dx, cy + h * dy) for dx, dy in ((-0.4, -0.3), (0.4, -0.2), (0.1, 0.4), (-0.2, 0.3))]
    flat = [f"{x:.4f} {y:.4f}" + "".join(f" {v}" for v in visibility) for x, y in points]
    return f"0 {cx} {cy} {w} {h} {' '.join(flat)}"


class TestLines:
    def test_oriented_boxes_are_refused(self, tmp_path):
        with pytest.raises(AnnotationError, match="oriented boxes"):
            lines(tmp_path, tilted(10, 8, 10, 4, 0.5), tilted(9, 8, 8, 6, 0.0), tilted(8, 8, 9, 3, 1.0))

    def test_upright_boxes_of_four_corners_are_the_same_either_way(self, tmp_path):
        dataset = lines(tmp_path, *[tilted(10, 8, 10, 4, 0.0)] * 4)
        np.testing.assert_allclose(dataset.boxes_of(3).xyxy, [[5, 6, 15, 10]], atol=1e-4)
        assert "4 polygons read as bounding boxes." in dataset.notes

    def test_polygons_of_four_points_are_no_oriented_boxes(self, tmp_path):
        dataset = lines(tmp_path, *["0 0.1 0.1 0.6 0.2 0.9 0.9 0.2 0.5", "1 0.2 0.1 0.7 0.3 0.6 0.9 0.1 0.8"] * 3)
        assert dataset.num_boxes == 6

    def test_dota_is_refused(self, tmp_path):
        text = "imagesource:GoogleEarth\ngsd:0.1\n2753 2408 2861 2385 2888 2468 2805 2502 plane 0\n"
        root = write(tmp_path, ("images/P0.png", ""), ("labelTxt/P0.txt", text))
        for format_ in ("yolo", "auto"):
            with pytest.raises(AnnotationError, match="DOTA"):
                read_as(root, format_)

    @pytest.mark.parametrize(("visibility", "shape"), [((), "4, 2"), ((2,), "4, 3")])
    def test_key_points_need_their_shape(self, tmp_path, visibility, shape):
        rows = [pose(0.3 + i / 20, 0.5, 0.3 + i / 50, 0.5, *visibility) for i in range(6)]
        with pytest.raises(AnnotationError, match=rf"kpt_shape: \[{shape}\]"):
            lines(tmp_path, *rows)
        dataset = lines(tmp_path, *rows, yaml=f"train: images\nnames: [a]\nkpt_shape: [{shape}]\n")
        np.testing.assert_allclose(dataset.boxes_of(0).xyxy, [[3, 4, 9, 12]], atol=1e-4)

    @pytest.mark.parametrize("corners", [5, 6, 8, 12, 16])
    def test_outlines_are_no_key_points(self, tmp_path, corners):
        rows = []
        for i in range(8):
            angles = np.linspace(0, 2 * np.pi, corners, endpoint=False) + i
            circle = np.stack([0.5 + 0.1 * np.cos(angles), 0.5 + 0.12 * np.sin(angles)], axis=1)
            rows.append("0 " + " ".join(f"{v:.5f}" for v in circle.ravel()))
        assert lines(tmp_path, *rows).num_boxes == 8

    def test_predictions_are_no_labels(self, tmp_path):
        dataset = lines(tmp_path, *["0 0.5 0.5 0.5 0.5 0.93"] * 30)
        assert codes(dataset) == [Code.BAD_BOX]
        assert "predictions, not labels" in dataset.findings[0].message
        assert "(30 lines of 30 images)" in dataset.findings[0].message
        assert len(dataset.findings[0].images) == 30

    def test_classes_from_one_are_said_and_not_shifted(self, tmp_path):
        dataset = lines(tmp_path, "1 0.5 0.5 0.5 0.5", "2 0.5 0.5 0.5 0.5", "2 0.5 0.5 0.2 0.2")
        assert codes(dataset) == [Code.UNKNOWN_CATEGORY]
        assert "count from 1" in dataset.findings[0].message
        assert dataset.num_boxes == 1

    def test_many_unknown_classes_and_pixels_share_a_finding(self, tmp_path):
        dataset = lines(tmp_path, BOX + "".join(f"{i} 0.5 0.5 0.5 0.5\n" for i in range(5, 40)) + "0 9 9 5 5\n" * 50)
        assert codes(dataset) == [Code.BAD_BOX, Code.UNKNOWN_CATEGORY]
        assert "not pixels" in dataset.findings[0].message
        assert "classes 5, 6, 7, … are not in 'names'" in dataset.findings[1].message

    def test_invalid_shapes_and_empty_lines(self, tmp_path):
        with pytest.raises(AnnotationError, match="'kpt_shape' must be"):
            lines(tmp_path, BOX, yaml="train: images\nnames: [a]\nkpt_shape: 42\n")
        assert codes(lines(tmp_path, BOX, ",,,")) == [Code.BAD_BOX]

    def test_decimal_commas(self, tmp_path):
        dataset = lines(tmp_path, BOX, "0 0,5 0,5 0,5 0,25")
        assert codes(dataset) == [Code.BAD_BOX]
        assert "a point, not a comma" in dataset.findings[0].message


WEIRD = (
    *(b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b"\xe2\x80\xa8", b"nan", b"1e400", b"-", b"\n", b": ", b"[", b"{"),
    *(b"&a [*a]", b"../", b"/", b"C:\\", b"%2e%2e"),
    *(b"9" * 5000, b" " * 1000, b"a/" * 3000, b"- " * 2000, b"0.5 " * 500),
)


def mutate(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    weird = rng.choice(WEIRD)
    kind = rng.randrange(4)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + weird + data[at + rng.randrange(4) :]
    if kind == 2:
        rows = data.split(b"\n")
        rng.shuffle(rows)
        return b"\n".join(rows[: rng.randrange(len(rows) + 1)])
    return bytes(rng.choice(data or b"x") for _ in data)


@pytest.mark.parametrize("export", EXPORTS)
def test_mutations_give_a_finding_or_one_line(tmp_path, export):
    rng = random.Random(export.__name__)
    good = export(tmp_path / "good", MADE, ["pit", "scratch"])
    texts = sorted(p.relative_to(good) for p in good.rglob("*") if p.suffix in (".txt", ".yaml", ".data", ".names"))
    bad = tmp_path / "bad"
    shutil.copytree(good, bad)
    for _ in range(60):
        chosen = rng.sample(texts, rng.randrange(1, 3))
        for name in chosen:
            (bad / name).write_bytes(mutate(rng, (good / name).read_bytes()))
        start = time.monotonic()
        for format_ in ("yolo", "auto"):
            try:
                dataset = read_as(bad, format_)
                assert all("\n" not in finding.message for finding in dataset.findings)
                assert all(path == "" or Path(path).is_relative_to(bad) for path in dataset.column("path"))
            except (AnnotationError, DataError) as error:
                assert "\n" not in str(error)  # noqa: PT017
        assert time.monotonic() - start < 10
        for name in chosen:
            shutil.copyfile(good / name, bad / name)
