"""Converted data sets: written atomically, shared by trainings, and independent of their place."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.training import Recorder
from tests.tasks.classification.conftest import SIDE, labels_plan, scratch
from tests.tasks.classification.conftest import plates as labelled_plates
from tests.tasks.detection.conftest import plates as boxed_plates
from tests.tasks.detection.conftest import plates_plan
from visionops.data.dataset import Split
from visionops.errors import DataError, TrainingError
from visionops.tasks.base import NoLog
from visionops.tasks.classification.features import FeatureStore
from visionops.tasks.classification.training import train_labels
from visionops.tasks.conversion import conversion_folder, convert
from visionops.tasks.converted import ConvertedDataset, require_converted_for
from visionops.tasks.detection.conversion import link_yolo
from visionops.tasks.detection.training import train_detector

TILES = {"size": 48, "overlap": 24, "keep_empty": 1.0}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path / "home"))


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def real_files(folder: Path) -> set[str]:
    return {name for name in files(folder) if not (folder / name).is_symlink()}


# Detection


def test_a_detectors_images_are_linked_and_its_labels_written(tmp_path):
    dataset = boxed_plates(tmp_path / "images")
    converted = convert(dataset, plates_plan().conversion, tmp_path / "converted")
    assert {name for name in files(converted.folder) if name.startswith("yolo/images/val/")} == {
        f"yolo/images/val/{row}.png" for row in (8, 9, 10)
    }
    assert all(path.is_symlink() for path in (converted.folder / "yolo" / "images").glob("*/*"))
    assert {name for name in real_files(converted.folder) if not name.startswith("yolo/labels/")} == {
        "yolo/data.yaml",
        "label_audit.png",
    }
    assert converted.dataset.fingerprint() == dataset.fingerprint()
    opened = [bool(path) for path in converted.dataset.column("path")]
    assert opened == [split == "val" for split in dataset.column("split")]
    require_converted_for(converted, plates_plan(epochs=99, image_size=128, batch=2))


def test_tiles_lie_in_the_folder_and_move_with_it(tmp_path):
    dataset = boxed_plates(tmp_path / "images", ("train", "train", "val", "test"))
    log = Recorder()
    converted = convert(dataset, plates_plan(tiles=TILES).conversion, tmp_path / "converted", log.progress)
    assert any("cut into tiles (3 of 3)" in note for note in log.notes)
    moved = converted.moved(tmp_path / "moved")
    shutil.move(converted.folder, moved.folder)
    assert len(list((moved.folder / "yolo" / "images").glob("*/*.png"))) == sum(moved.facts["images"].values())
    assert all(path.is_file() and not path.is_symlink() for path in moved.folder.rglob("*.png"))
    data = link_yolo(moved, tmp_path / "view")
    assert all(path.is_file() for path in data.parent.glob("images/*/*"))
    with pytest.raises(TrainingError, match="converted for other settings; run again with --no-cache"):
        train_detector(moved, plates_plan(), tmp_path / "work", NoLog())


def test_two_trainings_share_one_conversion_and_leave_it_as_it_was(tmp_path):
    converted = convert(boxed_plates(tmp_path / "images"), plates_plan().conversion, tmp_path / "converted")
    before = files(converted.folder)
    first, second = (
        train_detector(converted, plates_plan(epochs=1, extra={"cache": "disk"}), tmp_path / name, NoLog())
        for name in ("a", "b")
    )
    assert first.digest == second.digest
    assert files(converted.folder) == before
    assert list((tmp_path / "a" / "data" / "images" / "train").glob("*.npy"))


# Labels


def test_features_are_what_the_store_computes_and_train_images_are_not_opened(tmp_path, monkeypatch):
    dataset = labelled_plates(tmp_path / "images")
    plan = labels_plan(views="mirrored")
    converted = convert(dataset, plan.conversion, tmp_path / "converted")
    assert {name for name in files(converted.folder) if not name.startswith("images/val/")} == {
        "features/train.npy",
        "features/val.npy",
    }
    assert np.load(converted.folder / "features" / "train.npy").shape == (24, 2, 1280)
    assert np.load(converted.folder / "features" / "val.npy").shape == (12, 1, 1280)
    for path in dataset.select_split(Split.TRAIN).paths():
        path.unlink()
    monkeypatch.setattr(FeatureStore, "_compute", lambda *_: pytest.fail("computed again"))
    bundle = train_labels(converted, plan, tmp_path / "work", NoLog())
    assert bundle.card.data_fingerprint == dataset.fingerprint()


def test_features_of_other_weights_are_refused(tmp_path):
    converted = convert(labelled_plates(tmp_path / "images"), labels_plan().conversion, tmp_path / "converted")
    other = dataclasses.replace(converted, facts={**converted.facts, "weights": "of another file"})
    with pytest.raises(TrainingError, match="features of other weights"):
        train_labels(other, labels_plan(), tmp_path / "work", NoLog())
    (converted.folder / "features" / "val.npy").unlink()
    with pytest.raises(DataError, match="features cannot be read"):
        train_labels(converted, labels_plan(), tmp_path / "work", NoLog())


def test_from_scratch_there_are_links_alone(tmp_path):
    dataset = labelled_plates(tmp_path / "images")
    converted = convert(dataset, labels_plan(**scratch()).conversion, tmp_path / "converted")
    assert not real_files(converted.folder)
    assert len(files(converted.folder)) == 36
    assert converted.plan == labels_plan(**scratch(epochs=9, filters=4, image_size=48)).conversion
    shown = [Path(path) for path in converted.dataset.column("path") if path]
    assert {path.parent for path in shown} == {converted.folder / "images" / split for split in ("train", "val")}


# For any task


@pytest.mark.parametrize("fails", ["images", "late"])
def test_a_conversion_that_fails_leaves_nothing(tmp_path, monkeypatch, fails):
    dataset, target = labelled_plates(tmp_path / "images", (SIDE,)), tmp_path / "out" / "converted"
    if fails == "images":
        Path(dataset.column("path")[30]).write_bytes(b"no image")  # of val: the features of train exist by then
        dataset = dataset.replace_column("sha256", [""] * dataset.num_images)
        with pytest.raises(DataError, match=r"30\.png"):
            convert(dataset, labels_plan().conversion, target)
    else:

        def fail(*_: object) -> None:
            raise MemoryError

        monkeypatch.setattr("visionops.tasks.classification.conversion.link_images", fail)
        with pytest.raises(TrainingError, match="plates: the conversion stopped: MemoryError"):
            convert(dataset, labels_plan().conversion, target)
    assert list(target.parent.iterdir()) == []


def test_the_folder_and_the_identity_are_those_of_content_and_settings(tmp_path):
    dataset = labelled_plates(tmp_path / "images")
    frozen, mirrored = labels_plan().conversion, labels_plan(views="mirrored").conversion
    assert conversion_folder(dataset, frozen) == conversion_folder(
        dataset.replace_column("path", [""] * dataset.num_images), labels_plan(l2=0.5, seed=3).conversion
    )
    assert conversion_folder(dataset, frozen) != conversion_folder(dataset, mirrored)
    assert conversion_folder(dataset, frozen) != conversion_folder(dataset.take(range(40)), frozen)
    here = ConvertedDataset(dataset, frozen, tmp_path / "here", {"weights": "a"})
    assert here.fingerprint() == here.moved(tmp_path / "there").fingerprint()
    assert here.fingerprint() != dataclasses.replace(here, facts={"weights": "b"}).fingerprint()
    assert here.fingerprint() != dataclasses.replace(here, plan=mirrored).fingerprint()
