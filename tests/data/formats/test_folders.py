from __future__ import annotations

import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers.datasets import read_as, write_folders, write_image
from visionops.data.dataset import Dataset
from visionops.data.findings import Code, Severity
from visionops.data.formats import read_dataset
from visionops.data.label_rules import raw_key
from visionops.data.layers import Attribute
from visionops.data.settings import DataConfig
from visionops.errors import AnnotationError, DataError


def read(root, **labels) -> Dataset:
    data = {"source": {"kind": "folder", "path": root}, "format": "folders", "labels": labels}
    return read_dataset(root, DataConfig.model_validate(data), "made-up")


def answers(dataset: Dataset) -> dict[str, tuple[str, str | None]]:
    """Return a mapping of images to their split and class."""
    names = (*dataset.attributes[0].class_names, None)
    class_ids = dataset.label_array()[:, 0]
    columns = zip(dataset.column("key"), dataset.column("split"), class_ids, strict=True)
    return {key: (split, names[class_id]) for key, split, class_id in columns}


def found(dataset: Dataset) -> list[tuple[Code, str]]:
    return [(finding.code, finding.where) for finding in dataset.findings]


def test_each_folder_is_a_class_in_alphabetical_order(tmp_path):
    write_folders(tmp_path, {"grass": [1, 2], "dandelion": [3]})
    write_image(tmp_path / "grass/deep/er.JPG", format="JPEG")
    (tmp_path / "grass/Thumbs.db").write_text("x")
    (tmp_path / ".cache").mkdir()
    dataset = read(tmp_path)
    assert dataset.attributes == (Attribute("class", ("dandelion", "grass")),)
    assert answers(dataset) == {
        "dandelion/3.png": ("", "dandelion"),
        "grass/1.png": ("", "grass"),
        "grass/2.png": ("", "grass"),
        "grass/deep/er.JPG": ("", "grass"),
    }
    assert found(dataset) == [(Code.SYSTEM_FILE, ".cache and 1 more")]
    assert all(size > 0 for size in dataset.column("num_bytes"))


@pytest.mark.parametrize(
    ("folder", "split"), [("train", "train"), ("Training", "train"), ("VALID", "val"), ("validation", "val")]
)
def test_splits_are_recognized_by_their_names(tmp_path, folder, split):
    write_folders(
        tmp_path, {f"{folder}/b": [1], f"{folder}/a": [2], "Test/a": [3], "Inference": [4], "Inference/x": [5]}
    )
    assert answers(read(tmp_path)) == {
        f"{folder}/b/1.png": (split, "b"),
        f"{folder}/a/2.png": (split, "a"),
        "Test/a/3.png": ("test", "a"),
        "Inference/4.png": ("unlabelled", None),
        "Inference/x/5.png": ("unlabelled", None),
    }


def test_unlabelled_images_beside_classes(tmp_path):
    write_folders(tmp_path, {"a": [1], "b": [2], "unlabelled": [3]})
    assert answers(read(tmp_path))["unlabelled/3.png"] == ("unlabelled", None)


def test_a_rule_joins_names_and_drops_folders(tmp_path):
    write_folders(
        tmp_path, {"train/ok": [1], "train/pit": [2], "test/crack": [3], "test/blurred": [4], "test/later": [5]}
    )
    rule = {"classes": {"good": ["ok"], "defective": ["pit", "crack"]}, "drop": ["blurred"], "unknown": ["later"]}
    dataset = read(tmp_path, condition=rule | {"positive": "defective"})
    assert dataset.attributes == (Attribute("condition", ("good", "defective"), "defective"),)
    assert answers(dataset) == {
        "train/ok/1.png": ("train", "good"),
        "train/pit/2.png": ("train", "defective"),
        "test/crack/3.png": ("test", "defective"),
        "test/later/5.png": ("unlabelled", None),
    }
    assert dataset.notes == ("1 image of test/blurred left out, as data.labels.condition.drop says.",)


def test_a_folder_outside_the_mapping_is_refused_with_the_nearest(tmp_path):
    write_folders(tmp_path, {"ok_front": [1], "def_fornt": [2, 3]})
    dataset = read(tmp_path, condition={"classes": {"ok": ["ok_front"], "defective": ["def_front"]}})
    assert found(dataset) == [(Code.UNKNOWN_LABEL, "def_fornt")]
    finding = dataset.findings[0]
    assert finding.severity is Severity.ERROR
    assert finding.message == (
        "'def_fornt' is not a value of condition; data.labels.condition has 'def_front' instead, which the data does "
        "not have: correct the one that is misspelt (2 images without a class)"
    )
    assert finding.images == ("def_fornt/2.png", "def_fornt/3.png")
    assert list(answers(dataset)) == ["ok_front/1.png"]


def test_a_folder_that_resembles_another_is_refused_with_that_one(tmp_path):
    write_folders(tmp_path, {"ok_front": [1], "def_front": [2], "def_fornt": [3]})
    dataset = read(tmp_path, condition={"classes": {"ok": ["ok_front"], "defective": ["def_front"]}})
    assert "did you mean 'def_front'?" in dataset.findings[0].message


def test_an_empty_class_folder_is_found_and_is_no_class(tmp_path):
    write_folders(tmp_path, {"train/a": [1], "train/b": [2], "train/c": [], "test/a": []})
    (tmp_path / "train/c/notes.txt").write_text("to do")
    dataset = read(tmp_path)
    assert found(dataset) == [(Code.EMPTY_CLASS, "test/a"), (Code.EMPTY_CLASS, "train/c")]
    assert dataset.findings[0].severity is Severity.ERROR
    assert dataset.attributes[0].class_names == ("a", "b")


def test_images_in_no_class_folder_are_left_out(tmp_path):
    write_folders(tmp_path, {"": [0], "train": [1, 2], "train/a": [3], "train/b": [4], "more": [5]})
    dataset = read(tmp_path)
    assert list(answers(dataset)) == ["train/a/3.png", "train/b/4.png"]
    assert found(dataset) == [(Code.ORPHAN_IMAGE, "0.png and 3 more")]
    assert dataset.findings[0].images == ("0.png", "more/5.png", "train/1.png", "train/2.png")


def test_a_file_name_that_is_not_safe(tmp_path):
    write_folders(tmp_path, {"a": [1], "b": [2]})
    (tmp_path / "a/1.png").rename(tmp_path / "a/x\\y.png")
    assert found(read(tmp_path)) == [(Code.UNSAFE_NAME, "'a/x\\\\y.png'")]


def test_spellings_that_differ_in_case(tmp_path):
    write_folders(tmp_path, {"train/Cat": [1], "test/cat": [2]})
    dataset = read(tmp_path)
    assert dataset.all_class_names == ("cat",)
    assert "'Cat' and 'cat'" in dataset.notes[0] or "Cat" in dataset.notes[0]
    dataset = read(tmp_path, animal={"classes": {"cat": ["Cat", "cat"], "dog": ["dog"]}})
    assert {answer for _, answer in answers(dataset).values()} == {"cat"}


def test_folders_of_splits_without_classes(tmp_path):
    write_folders(tmp_path, {"train": [1], "test": [2]})
    with pytest.raises(AnnotationError, match="test: is named as a split but holds no class folders; put images into"):
        read(tmp_path)


def test_a_class_named_as_a_split_must_be_named(tmp_path):
    write_folders(tmp_path, {"bus": [1], "train": [2]})
    with pytest.raises(AnnotationError, match=r"or name the folder under data.labels if it is a class"):
        read(tmp_path)
    dataset = read(tmp_path, vehicle={"classes": {"bus": ["bus"], "train": ["train"]}})
    assert answers(dataset) == {"bus/1.png": ("", "bus"), "train/2.png": ("", "train")}


def test_images_without_any_folder(tmp_path):
    write_folders(tmp_path, {"": [1]})
    with pytest.raises(AnnotationError, match="holds images but no class folders"):
        read(tmp_path)


def test_an_empty_folder(tmp_path):
    with pytest.raises(DataError, match=r"holds no images; check data.source.path and data.format \(folders\)"):
        read(tmp_path)


class_folders = st.text(st.characters(categories=["L", "Nd"]), min_size=1, max_size=6)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    names=st.lists(class_folders, min_size=2, max_size=4, unique_by=str.casefold),
    splits=st.sets(st.sampled_from(["train", "val", "test"])),
)
def test_round_trip(tmp_path, names, splits):
    names = [name for name in names if name.casefold() not in {"train", "val", "test", "valid"}]
    root = tmp_path / "case"
    shutil.rmtree(root, ignore_errors=True)
    expected = {}
    for split in splits or {""}:
        for name in names:
            path = root / split / f"{name}" / "image.png"
            path.parent.mkdir(parents=True)
            path.write_bytes(b"x")
            expected[path.relative_to(root).as_posix()] = (split, name)
    if names:
        dataset = read(root)
        assert answers(dataset) == {key: (split, raw_key(name)) for key, (split, name) in expected.items()}
        assert not dataset.findings


def test_names_that_are_no_unicode_are_left_out_with_a_finding(tmp_path):
    write_folders(tmp_path, {"a": [1], "b": [2, 3]})
    try:
        (tmp_path / "b/3.png").rename(tmp_path / "b/\udcff.png")
    except OSError:
        pytest.skip("the file system takes Unicode only")
    dataset = read_as(tmp_path, "folders")
    assert dataset.column("key") == ["a/1.png", "b/2.png"]
    assert [(f.code, f.where) for f in dataset.findings] == [(Code.UNSAFE_NAME, "b/\\udcff.png")]


def test_splits_inside_the_class_folders(tmp_path):
    for i, place in enumerate(("ok/Train/a.png", "ok/Test/b.png", "pit/Train/x/c.png", "pit/Test/d.png")):
        write_image(tmp_path / place, seed=i)
    for format_ in ("auto", "folders"):
        dataset = read_as(tmp_path, format_)
        assert answers(dataset) == {
            "ok/Test/b.png": ("test", "ok"),
            "ok/Train/a.png": ("train", "ok"),
            "pit/Test/d.png": ("test", "pit"),
            "pit/Train/x/c.png": ("train", "pit"),
        }
        assert dataset.notes == ("The folders inside the class folders are the splits.",)
    write_image(tmp_path / "pit/e.png", seed=9)  # not all images are in such folders: they may have another meaning
    assert {split for split, _ in answers(read_as(tmp_path, "auto")).values()} == {""}
