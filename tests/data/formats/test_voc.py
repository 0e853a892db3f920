from __future__ import annotations

import pytest
from hypothesis import given, settings

from tests.helpers.datasets import read_as, voc_xml, write_image, write_voc, write_yolo_layout
from tests.helpers.exports import Made, assert_read_back, export_voc
from tests.helpers.made import made_images
from tests.helpers.mutations import fuzz_file
from visionops.data.findings import Code
from visionops.data.formats import read_dataset
from visionops.data.settings import DataConfig, FolderSource, Format
from visionops.errors import AnnotationError


def codes(dataset):
    return [finding.code for finding in dataset.findings]


def one(root, xml: str):
    """Return a VOC folder with one image, a.jpg."""
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


def test_trainval_is_train_without_other_lists(tmp_path):
    root = write_voc(tmp_path)
    (root / "ImageSets/Main/train.txt").unlink()
    assert read_as(root, "voc", "made-up").split_counts() == {"train": 1, "val": 1, "test": 1}


def test_lists_that_contradict_or_name_the_absent(tmp_path):
    root = write_voc(tmp_path)
    (root / "ImageSets/Main/test.txt").write_text("000000\n000099\n")
    dataset = read_as(root, "voc", "made-up")
    assert codes(dataset).count(Code.DUPLICATE_NAME) == 1
    assert "are in train and in test" in dataset.findings[0].message
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


def write_pair(
    root, image: str, xml: str, objects=(("pit", (1, 1, 5, 6)),), filename: str | None = None, seed: int = 0
):
    """Write an image and its VOC file at any places below the root."""
    write_image(root / image, seed=seed)
    (root / xml).parent.mkdir(parents=True, exist_ok=True)
    declared = image.rpartition("/")[2] if filename is None else filename
    (root / xml).write_text(voc_xml(declared, list(objects)), encoding="utf-8")


@pytest.mark.parametrize("format_", ["voc", "auto"])
@pytest.mark.parametrize(
    ("image", "xml", "filename"),
    [
        ("a.jpg", "a.xml", "a.jpg"),  # labelImg
        ("shots/a.jpg", "shots/a.xml", "IMG_0001.jpg"),  # a stale name
        ("JPEGImages/a.jpg", "Annotations/a.xml", "a"),  # Label Studio
        ("images/a.jpg", "Annotations/a.xml", "a.png"),
        ("images/a.jpg", "annotations/a.xml", ""),
        ("images/a.jpg", "annotations/xmls/a.xml", "a.jpg"),  # Oxford pets
        ("Images/line 2/a.jpg", "labels/line 2/a.xml", "a.jpg"),
        ("photos/x/a.jpg", "xml/x/a.xml", "a.jpg"),
        ("pics/a.jpg", "my labels/a.xml", "a.jpg"),
        ("img/a.jpg", "ann/a.jpg.xml", "a.jpg"),
        ("images/a.jpg", "a.xml", "a.jpg"),
        ("a.jpg", "annotations/a.xml", "a.jpg"),
        ("images/a.jpg", "images/annotations/a.xml", "a.jpg"),
        ("data/raw/images/a.jpg", "labels/final/a.xml", "a.jpg"),
        ("images/a.jpg", "Annotations/A.xml", "A.JPG"),
        ("images/n1/a.jpg", "Annotation/n1/a", "%s"),  # Stanford Dogs
        ("images/gr\u00fcn.jpg", "Annotations/gr%C3%BCn.xml", "gr%C3%BCn.jpg"),
        ("images/gru\u0308n.jpg", "Annotations/gr\u00fcn.xml", "gr\u00fcn.jpg"),
        ("images/a.jpg", "Annotations/0007.xml", "a.jpg"),  # a name of its own
        ("images/a.jpg", "Annotations/0007.xml", "images\\a.jpg"),
        ("images/a.jpg", "Annotations/0007.xml", "a"),
        ("images/a.jpg", "Annotations/1f0a2b3c-a.xml", "1f0a2b3c-a"),
    ],
)
def test_places_and_names(tmp_path, format_, image, xml, filename):
    write_pair(tmp_path, image, xml, filename=filename)
    dataset = read_as(tmp_path, format_)
    assert dataset.column("key") == [image]
    assert dataset.boxes_of(0).xyxy.tolist() == [[0, 0, 5, 6]]
    assert not dataset.findings


def test_the_mirrored_tree_keeps_images_of_one_name_apart(tmp_path):
    for seed, line in enumerate(("line1", "line2")):
        box = (1, 1, 5, 6 + seed)
        write_pair(tmp_path, f"JPEGImages/{line}/0.jpg", f"Annotations/{line}/0.xml", [("pit", box)], seed=seed)
    dataset = read_as(tmp_path, "auto")
    assert dataset.column("key") == ["JPEGImages/line1/0.jpg", "JPEGImages/line2/0.jpg"]
    assert [dataset.boxes_of(row).xyxy[0, 3] for row in (0, 1)] == [6, 7]
    assert not dataset.findings


def test_its_own_name_counts_more_than_the_declared(tmp_path):
    write_pair(tmp_path, "a.jpg", "a.xml", filename="b.jpg")
    write_pair(tmp_path, "b.jpg", "b.xml", filename="b.jpg", seed=1)
    dataset = read_as(tmp_path, "auto")
    assert dataset.column("key") == ["a.jpg", "b.jpg"]
    assert not dataset.findings
    assert "1 file names another image in <filename> (a.xml names b.jpg)" in dataset.notes[0]


def test_the_declared_suffix_decides_between_two_of_a_stem(tmp_path):
    write_pair(tmp_path, "images/a.jpg", "Annotations/a.xml")
    write_image(tmp_path / "images/a.png", seed=1)
    dataset = read_as(tmp_path, "auto")
    assert dataset.column("key") == ["images/a.jpg"]
    (tmp_path / "Annotations/a.xml").write_text(voc_xml("", []))
    assert codes(read_as(tmp_path, "voc"))[0] is Code.AMBIGUOUS_NAME


def test_masks_in_other_folders_are_not_the_images(tmp_path):
    write_pair(tmp_path, "JPEGImages/a.jpg", "Annotations/a.xml", filename="")
    write_image(tmp_path / "SegmentationClass/a.png", seed=1)
    assert read_as(tmp_path, "auto").column("key") == ["JPEGImages/a.jpg"]


def test_an_absent_image_is_one_finding_and_not_found_in_another_split(tmp_path):
    write_pair(tmp_path, "train/a.jpg", "train/a.xml")
    write_pair(tmp_path, "valid/b.jpg", "valid/b.xml", seed=1)
    (tmp_path / "train/c.xml").write_text(voc_xml("c.jpg", []))
    write_image(tmp_path / "valid/c.jpg", seed=2)
    dataset = read_as(tmp_path, "auto")
    assert codes(dataset) == [Code.MISSING_IMAGE, Code.ORPHAN_IMAGE]
    assert dataset.column("key") == ["train/a.jpg", "train/c.jpg", "valid/b.jpg"]


def test_roboflow_folders_are_splits(tmp_path):
    (tmp_path / "README.roboflow.txt").write_text("made-up")
    for seed, folder in enumerate(("train", "valid", "test")):
        write_pair(tmp_path, f"{folder}/a_jpg.rf.0{seed}.jpg", f"{folder}/a_jpg.rf.0{seed}.xml", seed=seed)
    dataset = read_as(tmp_path, "auto")
    assert dataset.split_counts() == {"train": 1, "val": 1, "test": 1}
    assert not dataset.findings


@pytest.mark.parametrize(
    ("image", "xml"),
    [
        ("{}/images/0.jpg", "{}/annotations/0.xml"),
        ("images/{}/0.jpg", "xmls/{}/0.xml"),
        ("img_{}/0.jpg", "ann_{}/0.xml"),
    ],
)
def test_trees_of_splits(tmp_path, image, xml):
    for seed, split in enumerate(("train", "val", "test")):
        write_pair(tmp_path, image.format(split), xml.format(split), seed=seed)
    dataset = read_as(tmp_path, "auto")
    assert dataset.split_counts() == {"train": 1, "val": 1, "test": 1}
    pairs = zip(dataset.column("key"), dataset.column("split"), strict=True)
    assert all(split in key for key, split in pairs)
    assert not dataset.findings


def test_one_folder_called_after_a_split_is_none(tmp_path):
    write_pair(tmp_path, "test/a.jpg", "test/a.xml")
    assert read_as(tmp_path, "auto").split_counts() == {"": 1}


@pytest.mark.parametrize(
    ("train", "val", "line"),
    [
        ("ImageSets/Main/train.txt", "ImageSets/Main/val.txt", "{}"),
        ("ImageSets/Main/Train.txt", "ImageSets/Main/Validation.txt", '"line 2/{}"'),  # CVAT
        ("ImageSets/Main/pit_train.txt", "ImageSets/Main/pit_val.txt", "{}.jpg  -1"),  # VoTT
        ("ImageSets/train.txt", "ImageSets/val.txt", "line 2\\{}.jpg"),
        ("train_list.txt", "val_list.txt", "JPEGImages/line 2/{0}.jpg Annotations/line 2/{0}.xml"),  # PaddleX
        ("train.txt", "val.txt", "./JPEGImages/line 2/{}.jpg"),
        ("Annotations/train.txt", "Annotations/val.txt", "{} 37 2 1"),
    ],
)
def test_lists_of_other_tools(tmp_path, train, val, line):
    for seed, stem in enumerate(("a b", "c d")):
        write_pair(tmp_path, f"JPEGImages/line 2/{stem}.jpg", f"Annotations/line 2/{stem}.xml", seed=seed)
    for file, stem in ((train, "a b"), (val, "c d")):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(line.format(stem) + "\n")
    dataset = read_as(tmp_path, "voc")
    assert dataset.column("split") == ["train", "val"]
    assert not dataset.findings


def test_a_line_with_a_folder_is_not_the_file_of_another_folder(tmp_path):
    for seed, stem in enumerate(("0", "line2/1")):
        write_pair(tmp_path, f"JPEGImages/{stem}.jpg", f"Annotations/{stem}.xml", seed=seed)
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "ImageSets/Main/train.txt").write_text("0\nline2/1\n")
    (tmp_path / "ImageSets/Main/val.txt").write_text("line2/0\nline2/2\n")
    dataset = read_as(tmp_path, "voc")
    assert dataset.column("split") == ["train", "train"]
    assert [(f.code, f.where) for f in dataset.findings] == [(Code.UNKNOWN_IMAGE, "ImageSets/Main/val.txt:1")]


@pytest.mark.parametrize(
    ("box", "expected"),
    [((0, 1, 5, 6), [[0, 1, 5, 6], [1, 1, 3, 3]]), ((1, 1, 5, 6), [[0, 0, 5, 6], [0, 0, 3, 3]])],
)
def test_a_box_at_zero_shows_that_all_were_counted_from_zero(tmp_path, box, expected):
    write_pair(tmp_path, "a.jpg", "a.xml", [("pit", box)])
    write_pair(tmp_path, "b.jpg", "b.xml", [("pit", (1, 1, 3, 3))], seed=1)
    dataset = read_as(tmp_path, "auto")
    assert [*dataset.boxes_of(0).xyxy.tolist(), *dataset.boxes_of(1).xyxy.tolist()] == expected
    assert any("counted from 0" in note for note in dataset.notes) is (box[0] == 0)


BNDBOX = "<bndbox><ymax>6.5</ymax><ymin>2</ymin><xmax>5</xmax><xmin>1.5</xmin></bndbox>"


@pytest.mark.parametrize(
    ("inside", "boxes"),
    [
        (BNDBOX, [[0.5, 1, 5, 6.5]]),  # in another order, with fractions
        (BNDBOX * 2, [[0.5, 1, 5, 6.5]] * 2),
        (f"<part><name>head</name>{BNDBOX}</part>{BNDBOX}", [[0.5, 1, 5, 6.5]]),  # VOC's layout of persons
        ("<polygon><x1>1</x1><y1>2</y1><x2>9</x2><y2>2.5</y2><x3>4</x3><y3>7</y3></polygon>", [[1, 2, 9, 7]]),
        (f"<polygon><x1>1</x1><y1>2</y1></polygon>{BNDBOX}", [[0.5, 1, 5, 6.5]]),  # Roboflow writes both
        ("<polygon><pt><x>1</x><y>2</y></pt><pt><x>9</x><y>7</y></pt></polygon>", [[1, 2, 9, 7]]),
        (
            "<robndbox><cx>10</cx><cy>8</cy><w>6</w><h>2</h><angle>1.5707963267948966</angle></robndbox>",
            [[9, 5, 11, 11]],
        ),
        (f"<deleted>1</deleted>{BNDBOX}", []),
    ],
)
def test_objects(tmp_path, inside, boxes):
    dataset = one(tmp_path, f"<annotation><object><name> pit\n</name>{inside}</object></annotation>")
    assert dataset.boxes_of(0).xyxy.tolist() == [pytest.approx(box) for box in boxes]
    assert dataset.class_names == (("pit",) if boxes else ())
    assert not dataset.findings
    assert bool(dataset.notes) is ("<bndbox>" not in inside or "deleted" in inside)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gbk", "gb2312", "big5", "iso-8859-1"])
def test_encodings(tmp_path, encoding):
    name = "\u00fc" if encoding == "iso-8859-1" else "\u4e2d"
    text = voc_xml("a.jpg", [(name, (1, 1, 2, 2))])
    (tmp_path / "Annotations").mkdir()
    write_image(tmp_path / "images/a.jpg")
    declared = encoding.removesuffix("-sig")
    data = f'<?xml version="1.0" encoding="{declared}"?>{text}'.encode(encoding)
    (tmp_path / "Annotations/a.xml").write_bytes(data)
    assert read_as(tmp_path, "auto").class_names == (name,)


def test_an_encoding_that_is_not_declared_is_refused_with_the_fix(tmp_path):
    write_image(tmp_path / "a.jpg")
    (tmp_path / "a.xml").write_bytes(voc_xml("a.jpg", [("\u4e2d", (1, 1, 2, 2))]).encode("gbk"))
    with pytest.raises(AnnotationError, match=r"a\.xml:1: not valid XML .*; save it as UTF-8"):
        read_as(tmp_path, "auto")


def test_names_that_are_no_paths_here(tmp_path):
    for i, declared in enumerate(("/etc/a.jpg", "C:\\a.jpg", "\\\\host\\a.jpg", "x/../../a.jpg")):
        write_pair(tmp_path, f"{i}.jpg", f"{i}.xml", filename=declared, seed=i)
    dataset = read_as(tmp_path, "voc")
    assert codes(dataset) == [Code.UNSAFE_NAME] * 4


def test_a_name_on_disk_that_is_no_unicode_is_a_finding(tmp_path):
    write_pair(tmp_path, "a.jpg", "a.xml")
    try:
        (tmp_path / "a.jpg").rename(tmp_path / "\udcff.jpg")
        (tmp_path / "a.xml").rename(tmp_path / "\udcff.xml")
    except OSError:
        pytest.skip("the file system takes Unicode only")
    write_pair(tmp_path, "b.jpg", "b.xml", seed=1)
    dataset = read_as(tmp_path, "voc")
    assert dataset.column("key") == ["b.jpg"]
    assert Code.UNSAFE_NAME in codes(dataset)


def test_folders_of_cameras_are_read_together(tmp_path):
    for seed, camera in enumerate(("cam1", "cam2")):
        write_pair(tmp_path, f"{camera}/JPEGImages/0.jpg", f"{camera}/Annotations/0.xml", seed=seed)
    dataset = read_as(tmp_path, "auto")
    assert dataset.column("key") == ["cam1/JPEGImages/0.jpg", "cam2/JPEGImages/0.jpg"]
    assert not dataset.findings


def test_other_xml_files(tmp_path):
    write_pair(tmp_path, "images/a.jpg", "Annotations/a.xml")
    (tmp_path / "pom.xml").write_text("<project/>")
    (tmp_path / "broken.xml").write_text("<net><layer>")
    dataset = read_as(tmp_path, "auto")
    assert "2 XML files without VOC annotations left out (broken.xml, pom.xml)." in dataset.notes
    (tmp_path / "Annotations/b.xml").write_text("<project/>")
    with pytest.raises(AnnotationError, match="must be <annotation>, but is <project>"):
        read_as(tmp_path, "auto")


def test_lists_of_boxes_of_other_tools_are_refused_by_name(tmp_path):
    write_image(tmp_path / "a.jpg")
    (tmp_path / "boxes.xml").write_text("<dataset><images><image file='a.jpg'/></images></dataset>")
    with pytest.raises(AnnotationError, match="<dataset>, a list of dlib's imglab; export"):
        read_as(tmp_path, "auto")


@settings(max_examples=25, deadline=None)
@given(made=made_images())
def test_round_trip(tmp_path_factory, made):
    images, classes = made
    dataset = read_as(export_voc(tmp_path_factory.mktemp("voc"), images), "auto")
    assert dataset.class_names == tuple(sorted(classes))
    assert_read_back(dataset, images, "JPEGImages/{name}")
    assert not dataset.findings


def test_fuzz(tmp_path):
    images = [Made(f"{i}.png", 8, 8, [("a", (1.0, 1.0, 5.0, 6.25))], "train") for i in range(3)]
    export_voc(tmp_path, images)
    fuzz_file(tmp_path, tmp_path / "Annotations/1.xml", "voc", 120)
    (tmp_path / "Annotations/1.xml").unlink()
    fuzz_file(tmp_path, tmp_path / "ImageSets/Main/train.txt", "voc", 30)


@pytest.mark.parametrize("folders", [("Annotations", "JPEGImages"), ("xmls", "images"), ("labels", "frames")])
def test_a_file_in_a_folder_is_not_the_one_above_it(tmp_path, folders):
    labels, images = folders
    write_pair(tmp_path, f"{images}/a.jpg", f"{labels}/a.xml")
    write_pair(tmp_path, f"{images}/x/a.jpg", f"{labels}/x/a.xml", seed=1)
    dataset = read_as(tmp_path, "voc")
    assert sorted(dataset.column("key")) == [f"{images}/a.jpg", f"{images}/x/a.jpg"]
    assert not dataset.findings
