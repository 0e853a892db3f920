from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.datasets import write_image
from visionops.data.additions import ADDED, add_images, fit_classes, read_additions
from visionops.data.cleaning import clean
from visionops.data.dataset import Dataset, Split
from visionops.data.findings import Code
from visionops.data.formats import read_dataset
from visionops.data.hashing import hash_images
from visionops.data.layers import Attribute
from visionops.data.settings import DataConfig, FolderSource, Format, SplitConfig, ValidationPolicy
from visionops.data.sources import data_fingerprint
from visionops.data.splitting.assignment import assign_splits
from visionops.data.validation.judging import validate
from visionops.errors import DataError
from visionops.tasks.spec import task_for

POLICY = ValidationPolicy(min_images=1)
SPLIT = SplitConfig(val=0.2, test=0.2)


def write_classes(root: Path, first_seed: int, counts: dict[str, int]) -> Path:
    """Write one folder per class with 24 x 24 noise images, enlarged so that none looks like another."""
    seed = first_seed
    for name, count in counts.items():
        for _ in range(count):
            path = root / name / f"{seed}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
            Image.fromarray(pixels).save(path)
            seed += 1
    root.mkdir(parents=True, exist_ok=True)
    return root


def config(tmp_path: Path) -> DataConfig:
    return DataConfig(
        source=FolderSource(kind="folder", path=tmp_path / "base"),
        additions=FolderSource(kind="folder", path=tmp_path / "new"),
        format=Format.FOLDERS,
        split=SPLIT,
    )


@pytest.fixture
def base(tmp_path) -> Dataset:
    """Return a prepared data set: 30 images of two classes, split."""
    root = write_classes(tmp_path / "base", 0, {"ok": 20, "pit": 10})
    dataset = hash_images(read_dataset(root, config(tmp_path), "parts"))
    return assign_splits(clean(dataset, validate(dataset, POLICY)), SPLIT)


def read(tmp_path: Path) -> Dataset:
    added = read_additions(config(tmp_path), "parts", task_for("classification").fit_dataset, tmp_path / "cache")
    assert added is not None
    return added


def splits(dataset: Dataset) -> dict[str, str]:
    return dict(zip(dataset.column("key"), dataset.column("split"), strict=True))


def test_existing_images_keep_their_split_and_additions_get_one(base, tmp_path):
    write_classes(tmp_path / "new", 100, {"ok": 40, "pit": 20})
    grown = add_images(base, read(tmp_path), POLICY, SPLIT)
    assert {key: split for key, split in splits(grown).items() if not key.startswith(ADDED)} == splits(base)
    dealt = [split for key, split in splits(grown).items() if key.startswith(ADDED)]
    assert len(dealt) == 60
    assert {"train", "val", "test"} == set(dealt)
    assert dealt.count("train") > dealt.count("test")
    assert any("60 images labelled later were added" in note for note in grown.notes)


def test_an_addition_stays_where_it_is_when_others_follow(base, tmp_path):
    write_classes(tmp_path / "new", 100, {"ok": 20, "pit": 10})
    before = splits(add_images(base, read(tmp_path), POLICY, SPLIT))
    write_classes(tmp_path / "new", 500, {"ok": 15, "pit": 15})
    after = splits(add_images(base, read(tmp_path), POLICY, SPLIT))
    assert len(after) == len(before) + 30
    assert before.items() <= after.items()


def test_classes_are_matched_by_name(base, tmp_path):
    write_classes(tmp_path / "new", 100, {"pit": 6})  # alone, it is class 0 of its folder
    grown = add_images(base, read(tmp_path), POLICY, SPLIT)
    added = [row for row, key in enumerate(grown.column("key")) if key.startswith(ADDED)]
    assert grown.attributes == base.attributes
    assert {grown.attributes[0].class_names[i] for i in grown.label_array()[added, 0]} == {"pit"}


def test_an_unknown_class_is_refused(base, tmp_path):
    write_classes(tmp_path / "new", 100, {"ok": 3, "crack": 3})
    with pytest.raises(DataError, match=r"data\.additions: unknown class 'crack'; the data set has ok, pit;"):
        add_images(base, read(tmp_path), POLICY, SPLIT)


def test_a_copy_is_left_out_and_a_look_alike_gets_the_split_of_its_group(base, tmp_path):
    of_test = base.select_split(Split.TEST).paths()[0]
    of_train = base.select_split(Split.TRAIN).paths()[0]
    folder = tmp_path / "new" / "ok"
    folder.mkdir(parents=True)
    shutil.copy(of_test, folder / "copy.png")
    for name, path in (("a", of_test), ("b", of_train)):
        Image.open(path).save(folder / f"{name}.jpg", quality=95)
    write_classes(tmp_path / "new", 100, {"ok": 4, "pit": 1})
    found = splits(add_images(base, read(tmp_path), POLICY, SPLIT))
    assert f"{ADDED}ok/copy.png" not in found
    assert found[f"{ADDED}ok/a.jpg"] == "test"
    assert found[f"{ADDED}ok/b.jpg"] == "train"


def test_an_addition_like_images_of_two_splits_is_left_out(base, tmp_path):
    path = base.select_split(Split.TEST).paths()[0]
    other = base.column("key").index(base.select_split(Split.TRAIN).column("key")[0])
    paths = base.column("path")
    twin = tmp_path / "twin.png"
    with Image.open(path) as image:
        image.resize((96, 96)).save(twin)
    paths[other] = str(twin)
    hashes = base.column("sha256")
    hashes[other] = ""
    leaky = hash_images(base.replace_column("path", paths).replace_column("sha256", hashes))
    folder = tmp_path / "new" / "ok"
    folder.mkdir(parents=True)
    with Image.open(path) as image:
        image.save(folder / "between.jpg", quality=95)
    write_classes(tmp_path / "new", 100, {"ok": 4, "pit": 1})
    grown = add_images(leaky, read(tmp_path), POLICY, SPLIT)
    assert f"{ADDED}ok/between.jpg" not in splits(grown)
    assert any(f"{ADDED}ok/between.jpg: looks like images that are in train and test here" in n for n in grown.notes)
    assert [f.code for f in grown.findings] == [Code.NEAR_LEAK]


def test_a_broken_addition_stops_with_its_place(base, tmp_path):
    write_classes(tmp_path / "new", 100, {"ok": 2, "pit": 2})
    (tmp_path / "new" / "ok" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n then nothing")
    with pytest.raises(DataError, match=r"data\.additions: additions/ok/broken\.png: "):
        add_images(base, read(tmp_path), ValidationPolicy(min_images=1), SPLIT)


def test_an_empty_folder_has_no_additions_yet_and_no_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"data\.additions: .*new: no such folder; set data\.additions\.path"):
        read_additions(config(tmp_path), "parts", task_for("classification").fit_dataset, tmp_path)
    (tmp_path / "new").mkdir()
    assert read_additions(config(tmp_path), "parts", task_for("classification").fit_dataset, tmp_path) is None
    without = config(tmp_path).model_copy(update={"additions": None})
    assert read_additions(without, "parts", task_for("classification").fit_dataset, tmp_path) is None


def test_another_label_changes_the_fingerprint(tmp_path):
    write_classes(tmp_path / "base", 0, {"ok": 2, "pit": 2})
    write_classes(tmp_path / "new", 100, {"ok": 2})
    before = data_fingerprint(config(tmp_path))
    assert before == data_fingerprint(config(tmp_path))
    write_image(tmp_path / "new" / "ok" / "one-more.png")
    assert data_fingerprint(config(tmp_path)) != before


def test_boxes_point_at_their_images_after_the_classes_are_put_in_order():
    added = Dataset.from_columns(
        "new",
        ["pit", "scratch"],
        {"key": ["a", "b"]},
        {"image": [0, 1, 1], "class_id": [1, 0, 1], "x1": [0, 0, 1], "y1": [0, 0, 1], "x2": [2, 2, 2], "y2": [2, 2, 2]},
    )
    fitted = fit_classes(added, ["crazing", "scratch", "pit"], ())
    assert fitted.boxes_of(0).class_ids.tolist() == [1]
    assert fitted.boxes_of(1).class_ids.tolist() == [2, 1]
    with pytest.raises(DataError, match="labelled by boxes, but the data set by hair"):
        fit_classes(added, (), [Attribute("hair", ("short", "long"))])


def test_a_missing_attribute_of_an_addition_stays_unknown():
    hair = Attribute("hair", ("short", "long"))
    added = Dataset.from_columns("new", (), {"key": ["a", "b"]}, {}, attributes=[hair], labels={"hair": [None, 0]})
    other = dataclasses.replace(hair, class_names=("bald", "short", "long"))
    assert fit_classes(added, (), [other]).label_array().tolist() == [[-1], [1]]
