"""Decisions of a review, applied to the images of a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from visionops.data.additions import mark_added
from visionops.data.corrections import apply_review
from visionops.data.dataset import Dataset, Split
from visionops.data.findings import Code
from visionops.data.hashing import hash_images
from visionops.data.history import SplitHistory
from visionops.data.layers import Attribute
from visionops.data.settings import SplitConfig
from visionops.data.splitting.assignment import assign_splits
from visionops.errors import DataError

CLASSES = ("ok", "pit")
SPLITS = ["train", "val", "test", "unlabelled"]


def images(folder: Path, seeds: list[int]) -> dict[str, list[str]]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{seed}.png" for seed in seeds]
    for seed, path in zip(seeds, paths, strict=True):
        pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return {"key": [path.name for path in paths], "path": [str(path) for path in paths]}


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    columns = images(tmp_path / "source", [0, 1, 2, 3]) | {"split": SPLITS}
    attributes, labels = [Attribute("class", CLASSES, "pit")], {"class": [0, 1, 0, None]}
    return hash_images(Dataset.from_columns("parts", (), columns, {}, attributes=attributes, labels=labels))


def reviewed(folder: Path, labels: dict[int, int], classes: tuple[str, ...] = CLASSES) -> Dataset:
    attributes, ids = [Attribute("class", classes)], {"class": list(labels.values())}
    made = Dataset.from_columns("parts", (), images(folder, list(labels)), {}, attributes=attributes, labels=ids)
    return mark_added(hash_images(made))


def test_a_corrected_label_replaces_that_of_the_data_set_and_the_split_stays(dataset: Dataset, tmp_path: Path):
    # Matched by name: the order of classes differs. 2 is in test; 3 has no label; 9 is new.
    decided = reviewed(tmp_path / "new", {0: 0, 1: 0, 2: 0, 3: 1, 9: 1}, ("pit", "ok"))
    corrected, added = apply_review(dataset, decided, ())
    assert corrected.column("key") == dataset.column("key")
    assert corrected.column("split") == SPLITS
    assert corrected.label_array()[:, 0].tolist() == [1, 1, 1, -1]
    assert added.column("key") == ["additions/3.png", "additions/9.png"]
    assert added.label_array()[:, 0].tolist() == [0, 0]
    assert [(f.code, f.where, f.message) for f in corrected.findings] == [
        (Code.CORRECTED_LABEL, "0.png", "corrected in review: class pit instead of ok"),
        (Code.CORRECTED_LABEL, "2.png", "corrected in review: class pit instead of ok"),
    ]
    assert corrected.notes == ("2 labels of the data set corrected in review.",)


def test_a_confirmed_label_is_not_a_correction(dataset: Dataset, tmp_path: Path):
    corrected, added = apply_review(dataset, reviewed(tmp_path / "new", {0: 0}), ())
    assert corrected.fingerprint() == dataset.fingerprint()
    assert (corrected.findings, added.num_images) == ((), 0)


def test_rejected_images_are_left_out_unless_they_have_no_label(dataset: Dataset, tmp_path: Path):
    digests = dataset.column("sha256")
    nothing = reviewed(tmp_path / "new", {})
    left, added = apply_review(dataset, nothing, [digests[1], digests[3], "f" * 64])
    assert left.column("key") == ["0.png", "2.png", "3.png"]
    assert left.label_array()[:, 0].tolist() == [0, 0, -1]
    assert [(f.code, f.where) for f in left.findings] == [(Code.REJECTED_IMAGE, "1.png")]
    assert added.num_images == 0


def test_corrected_boxes_point_at_their_images(tmp_path: Path):
    columns = images(tmp_path / "source", [0, 1, 2])
    old = {"image": [0, 1, 2], "class_id": [0, 0, 1], "x1": [1] * 3, "y1": [1] * 3, "x2": [5] * 3, "y2": [5] * 3}
    source = hash_images(Dataset.from_columns("parts", CLASSES, columns, old))
    new = {"image": [0, 0], "class_id": [1, 0], "x1": [2, 3], "y1": [2, 3], "x2": [6, 7], "y2": [6, 7]}
    decided = hash_images(Dataset.from_columns("parts", CLASSES, images(tmp_path / "new", [1, 2]), new))
    corrected, added = apply_review(source, mark_added(decided), [source.column("sha256")[0]])
    assert corrected.column("key") == ["1.png", "2.png"]
    assert corrected.boxes_of(0).class_ids.tolist() == [1, 0]
    assert corrected.boxes_of(1).class_ids.tolist() == []  # a reviewer found no object on it
    assert {f.message for f in corrected.findings if f.code is Code.CORRECTED_LABEL} == {
        "corrected in review: other boxes"
    }
    assert added.num_images == 0
    assert corrected.select_split(Split.NONE).num_images == 2


def test_an_unknown_class_is_refused(dataset: Dataset, tmp_path: Path):
    with pytest.raises(DataError, match=r"data\.additions: unknown class 'crack'"):
        apply_review(dataset, reviewed(tmp_path / "new", {7: 0}, ("crack", "ok")), ())


BASE, LINE = range(20), range(16, 40)
"""Numbers of the images in the data set and in the review; four are in both."""
DECISIONS = st.dictionaries(st.sampled_from(LINE), st.sampled_from(["ok", "pit", "reject"]), max_size=8)


def table(numbers: list[int], labels: list[int]) -> Dataset:
    columns = {"key": [f"{n:02}.png" for n in numbers], "sha256": [f"{n + 1:064x}" for n in numbers]}
    attributes = [Attribute("class", CLASSES)]
    return Dataset.from_columns("parts", (), columns, {}, attributes=attributes, labels={"class": labels})


@given(rounds=st.lists(DECISIONS, min_size=2, max_size=5))
@settings(max_examples=40)
def test_an_image_keeps_its_split_when_its_label_changes(rounds):
    base = table(list(BASE), [n % 2 for n in BASE])
    history, dealt, decided = SplitHistory.empty(), {}, {}
    for decisions in rounds:  # an image with a second decision was reopened
        decided |= decisions
        labelled = sorted(n for n, said in decided.items() if said != "reject")
        rejected = {f"{n + 1:064x}" for n, said in decided.items() if said == "reject"}
        decision = mark_added(table(labelled, [CLASSES.index(decided[n]) for n in labelled]))
        corrected, added = apply_review(base, decision, rejected)
        prepared = assign_splits(corrected.append(added), SplitConfig(val=0.2, test=0.2), history)
        history = history.merged(SplitHistory.of(prepared))
        digests, splits = prepared.column("sha256"), prepared.column("split")
        assert len(set(digests)) == len(digests)
        assert rejected.isdisjoint(digests)
        now = dict(zip(digests, splits, strict=True))
        assert all(dealt[digest] == split for digest, split in now.items() if digest in dealt)
        dealt |= now
        said = {d: CLASSES[i] for d, i in zip(digests, prepared.label_array()[:, 0].tolist(), strict=True)}
        assert all(said[f"{n + 1:064x}"] == decided[n] for n in labelled)
