"""Folders of links: created, listed and restored elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from visionops.data.dataset import Dataset, Split
from visionops.data.hashing import hash_images
from visionops.data.layout import link_images, link_layout, list_layout, restore_layout
from visionops.errors import DataError


@pytest.fixture
def dataset(tmp_path):
    keys = ["a/1.JPG", "b/1.jpg", "b/2.png"]
    for key in keys:
        path = tmp_path / "source" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(key.encode())
    columns = {"key": keys, "path": [f"{tmp_path}/source/{key}" for key in keys], "split": ["train", "val", "test"]}
    return hash_images(Dataset.from_columns("case", (), columns, {}))


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_images_are_linked_by_split_and_the_rest_has_no_path(dataset, tmp_path):
    linked = link_images(dataset, tmp_path / "images", Split.TRAIN, Split.VAL)
    assert names(tmp_path / "images") == ["train/a__1.jpg", "val/b__1.jpg"]
    assert all(path.is_symlink() for path in (tmp_path / "images").glob("*/*"))
    assert linked.column("path") == [*(f"{tmp_path}/images/{n}" for n in ("train/a__1.jpg", "val/b__1.jpg")), ""]
    assert linked.fingerprint() == dataset.fingerprint()
    assert [path.read_bytes() for path in linked.paths()[:2]] == [b"a/1.JPG", b"b/1.jpg"]


def test_an_image_that_is_not_here_is_named(dataset, tmp_path):
    with pytest.raises(DataError, match=r"a/1\.JPG: the image is not on this machine"):
        link_images(dataset.replace_column("path", [""] * 3), tmp_path / "images", Split.TRAIN)


def test_a_trainer_writes_into_its_view_alone(dataset, tmp_path):
    layout, view = tmp_path / "layout", tmp_path / "view"
    link_images(dataset, layout / "images", Split.TRAIN, Split.VAL)
    (layout / "data.yaml").write_text("train: images/train")
    before = names(layout)
    link_layout(layout, view)
    (view / "images" / "train" / "a__1.npy").touch()
    (view / "data.yaml").write_text("changed")
    assert names(layout) == before
    assert (layout / "data.yaml").read_text() == "train: images/train"
    link = view / "images" / "train" / "a__1.jpg"
    assert link.readlink() == Path(dataset.column("path")[0])  # independent of the layout
    link_layout(layout, view)
    assert names(view) == before


def test_missing_files_are_reported_before_a_trainer_starts(dataset, tmp_path):
    layout, view = tmp_path / "layout", tmp_path / "view"
    with pytest.raises(DataError, match="converted data set is missing; run again with --no-cache"):
        link_layout(layout, view)
    link_images(dataset, layout / "images", Split.TRAIN)
    dataset.paths()[0].unlink()
    with pytest.raises(DataError, match=r"1\.JPG: the image is missing; run again with --no-cache"):
        link_layout(layout, view)
    assert not view.exists()


def test_a_layout_is_listed_and_restored_elsewhere(dataset, tmp_path):
    layout = tmp_path / "layout"
    link_images(dataset, layout / "images", Split.TRAIN, Split.VAL)
    (layout / "labels.txt").write_text("0 1")
    listed = list_layout(layout)
    assert listed.column("key") == ["images/train/a__1.jpg", "images/val/b__1.jpg", "labels.txt"]
    assert listed.column("sha256")[:2] == dataset.column("sha256")[:2]
    restore_layout(listed, tmp_path / "other")
    assert names(tmp_path / "other") == names(layout)
    with pytest.raises(DataError, match=r"labels\.txt: missing from the artifact store"):
        restore_layout(listed.replace_column("path", [*listed.column("path")[:2], ""]), tmp_path / "third")
    assert not (tmp_path / "third").exists()
