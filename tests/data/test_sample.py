"""The rendered sample: its files, and that its labels match the pixels."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visionops.data.sample.folder import render_sample
from visionops.data.sample.reliefs import Defect
from visionops.data.sample.surfaces import render_surface
from visionops.data.settings import SampleSource
from visionops.errors import DataError

SPLITS = ("train", "val", "inference")


def source(**changes) -> SampleSource:
    return SampleSource(kind="sample", **{"images": 24, "size": 160, **changes})


def digests(folder: Path) -> dict[str, str]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def labels(folder: Path, split: str) -> dict:
    return json.loads((folder / "Surface" / split / "_annotations.coco.json").read_text())


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    render_sample(source(images=120), folder)
    return folder


def test_plain_json_and_pillow_read_the_vision_layout(sample):
    for split in SPLITS:
        document = labels(sample, split)
        names = [image["file_name"] for image in document["images"]]
        assert names == [f"{i:06d}.jpg" for i in range(len(names))]
        assert {p.name for p in (sample / "Surface" / split).iterdir()} == {*names, "_annotations.coco.json"}
        assert [c["name"] for c in document["categories"]] == ["scratch", "pit", "inclusion", "patch"]
        for image in document["images"]:
            with Image.open(sample / "Surface" / split / image["file_name"]) as picture:
                picture.load()
                assert (picture.format, picture.mode, picture.size) == (
                    "JPEG",
                    "RGB",
                    (image["width"], image["height"]),
                )


def test_seven_in_ten_images_train_and_those_for_inference_have_no_labels(sample):
    assert [len(labels(sample, split)["images"]) for split in SPLITS] == [84, 36, 6]
    assert labels(sample, "inference")["annotations"] == []


def test_every_box_lies_inside_its_image_and_is_large_enough_to_learn(sample):
    for split in ("train", "val"):
        for annotation in labels(sample, split)["annotations"]:
            x, y, width, height = annotation["bbox"]
            assert x >= 0
            assert y >= 0
            assert x + width <= 160
            assert y + height <= 160
            assert min(width, height) >= 4  # 8 at 320
            assert 0 < annotation["area"] <= width * height


def test_an_image_has_up_to_four_defects_and_the_set_share_has_none(sample):
    for split in ("train", "val"):
        document = labels(sample, split)
        defects = Counter(annotation["image_id"] for annotation in document["annotations"])
        clean = len(document["images"]) - len(defects)
        assert set(defects.values()) == {1, 2, 3, 4}
        assert clean / len(document["images"]) == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("split", ["train", "val"])
def test_every_class_is_as_frequent_as_the_others(sample, split):
    counts = Counter(annotation["category_id"] for annotation in labels(sample, split)["annotations"])
    assert sorted(counts) == [0, 1, 2, 3]
    assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_share_of_clean_images_follows_the_setting(tmp_path, share):
    render_sample(source(images=40, size=64, clean_share=share), tmp_path)
    documents = [labels(tmp_path, split) for split in ("train", "val")]
    clean = sum(len(d["images"]) - len({a["image_id"] for a in d["annotations"]}) for d in documents)
    assert clean / 40 == pytest.approx(share, abs=0.05)


def test_the_same_settings_give_the_same_bytes(tmp_path):
    render_sample(source(), tmp_path / "a")
    render_sample(source(), tmp_path / "b")
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_another_seed_gives_other_images(tmp_path):
    render_sample(source(), tmp_path / "a")
    render_sample(source(seed=1), tmp_path / "b")
    one, other = digests(tmp_path / "a"), digests(tmp_path / "b")
    assert not set(one.values()) & {d for name, d in other.items() if name.endswith(".jpg")}


def test_more_images_leave_the_first_ones_as_they_are(tmp_path):
    render_sample(source(images=20), tmp_path / "few")
    render_sample(source(images=40), tmp_path / "many")
    few, many = digests(tmp_path / "few"), digests(tmp_path / "many")
    for name in few:
        if name.endswith(".jpg"):
            assert few[name] == many[name]


def test_no_image_is_rendered_twice(sample):
    pictures = [digest for name, digest in digests(sample).items() if name.endswith(".jpg")]
    assert len(set(pictures)) == len(pictures)


@pytest.mark.parametrize("size", [160, 320, 640])
@pytest.mark.parametrize("defect", Defect)
def test_a_box_is_tight_about_what_the_defect_changed(defect, size):
    settings = source(size=size, difficulty=0.0)
    tolerance = 2 + 2 * size / 320  # the lit rim and the lens blur extend slightly beyond the outline
    for seed in range(8):
        marked = render_surface(settings, [seed], [defect])
        clean = render_surface(settings, [seed], [])
        change = np.abs(marked.image.astype(int) - clean.image).max(axis=2)
        rows, columns = np.nonzero(change > 16)
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(marked.boxes[0], seen, atol=tolerance)


def test_nothing_changes_outside_the_boxes_and_defects_keep_apart():
    settings = source(size=320)
    for seed in range(10):
        marked = render_surface(settings, [seed], list(Defect))
        clean = render_surface(settings, [seed], [])
        change = np.abs(marked.image.astype(int) - clean.image).max(axis=2)
        owner = np.zeros((320, 320), int)
        for x1, y1, x2, y2 in marked.boxes:
            owner[max(0, y1 - 6) : y2 + 6, max(0, x1 - 6) : x2 + 6] += 1
        assert sorted(marked.defects) == sorted(Defect)
        assert owner.max() == 1
        assert change[owner == 0].max() <= 4


@pytest.mark.parametrize("size", [64, 97, 320])
def test_four_defects_of_any_kind_find_room(size):
    for seed in range(12):
        for defects in ([Defect.PATCH] * 4, [Defect.SCRATCH] * 4, [*Defect]):
            surface = render_surface(source(size=size), [seed], defects)
            assert sorted(surface.defects) == sorted(defects)
            assert surface.image.shape == (size, size, 3)


def test_difficulty_lowers_the_contrast_of_defects_and_raises_the_texture():
    contrasts, textures = [], []
    for difficulty in (0.0, 0.5, 1.0):
        settings = source(difficulty=difficulty)
        clean = [render_surface(settings, [seed], []).image.astype(int) for seed in range(6)]
        marked = [render_surface(settings, [seed], [*Defect]).image.astype(int) for seed in range(6)]
        contrasts.append(np.mean([np.abs(m - c).sum() for m, c in zip(marked, clean, strict=True)]))
        textures.append(np.mean([np.diff(c[..., 1], axis=0).std() for c in clean]))
    assert contrasts[0] > contrasts[1] > contrasts[2] > 0
    assert textures[0] < textures[1] < textures[2]


def test_progress_counts_to_the_end(tmp_path):
    calls = []
    render_sample(source(images=12, size=64), tmp_path, lambda done, total: calls.append((done, total)))
    assert calls == [(i, 16) for i in range(1, 17)]


def test_a_file_in_the_way_is_refused_in_one_line(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(DataError, match="taken: the sample cannot be written") as caught:
        render_sample(source(images=12, size=64), tmp_path / "taken")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(DataError, match="permission denied"):
        render_sample(source(images=12, size=64), tmp_path / "sample")


def test_a_full_disk_is_refused_in_one_line(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match="no space left on device"):
        render_sample(source(images=12, size=64), tmp_path)
