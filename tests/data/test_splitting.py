from __future__ import annotations

import hashlib
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.datasets import read_as
from visionops.data.dataset import Dataset, Split
from visionops.data.settings import SplitConfig
from visionops.data.splitting.assignment import assign_splits
from visionops.errors import DataError

LABELLED = ("train", "val", "test")


def made_up(labels: list[set[int]], splits: list[str] | None = None, groups: list[str] | None = None, classes: int = 4):
    """Return a data set whose image ``i`` shows the classes ``labels[i]``."""
    keys = [f"{i:05d}.jpg" for i in range(len(labels))]
    pairs = [(i, c) for i, shown in enumerate(labels) for c in sorted(shown)]
    image, class_id = [p[0] for p in pairs], [p[1] for p in pairs]
    images = {"key": keys, "sha256": [hashlib.sha256(k.encode()).hexdigest() for k in keys]}
    images |= {"split": splits or [""] * len(keys), "group": groups or [""] * len(keys)}
    corners = {c: [v] * len(pairs) for c, v in (("x1", 0.0), ("y1", 0.0), ("x2", 1.0), ("y2", 1.0))}
    boxes = {"image": image, "class_id": class_id, **corners}
    return Dataset.from_columns("made-up", [f"c{i}" for i in range(classes)], images, boxes)


def by_key(dataset: Dataset) -> dict[str, str]:
    return dict(zip(dataset.column("key"), dataset.column("split"), strict=True))


label_sets = st.lists(st.sets(st.integers(0, 3), max_size=3), min_size=12, max_size=120)
configs = st.builds(SplitConfig, val=st.floats(0.1, 0.3), test=st.floats(0.1, 0.3), seed=st.integers(0, 5))


@settings(max_examples=40, deadline=None)
@given(labels=label_sets, config=configs, data=st.data())
def test_every_cut_is_a_fair_reproducible_partition(labels, config, data):
    dataset = made_up(labels)
    result = assign_splits(dataset, config)
    counts = result.split_counts()
    assert set(counts) == set(LABELLED)
    assert sum(counts.values()) == len(labels)
    for split, share in ("val", config.val), ("test", config.test):
        chance = 4 * np.sqrt(share * (1 - share) * len(labels))  # each image is assigned by itself
        assert abs(counts[split] - share * len(labels)) <= chance + 4  # a class more
    shown = set().union(*labels)
    trained = {c for c in shown for row, s in enumerate(result.column("split")) if s == "train" and c in labels[row]}
    assert trained == shown, "every class that there is can be learned"
    order = data.draw(st.permutations(range(len(labels))))
    assert by_key(assign_splits(dataset.take(order), config)) == by_key(result)


@settings(max_examples=30, deadline=None)
@given(labels=label_sets, group_of=st.lists(st.integers(0, 11), min_size=120, max_size=120), config=configs)
def test_groups_stay_in_one_split(labels, group_of, config):
    groups = [f"g{g}" if g < 9 else "" for g in group_of[: len(labels)]]
    try:
        result = assign_splits(made_up(labels, groups=groups), config)
    except DataError:
        return  # too few groups for three splits
    sides: dict[str, set[str]] = {}
    for group, split in zip(groups, result.column("split"), strict=True):
        sides.setdefault(group, set()).add(split)
    assert all(len(found) == 1 for group, found in sides.items() if group)


def test_classes_are_split_by_their_shares():
    labels = [{0}] * 200 + [{1}] * 60 + [{0, 2}] * 20 + [set()] * 40
    result = assign_splits(made_up(labels), SplitConfig(val=0.2, test=0.1))
    found = Counter((s, tuple(sorted(shown))) for s, shown in zip(result.column("split"), labels, strict=True))
    for shown, total in ((0,), 200), ((1,), 60), ((0, 2), 20), ((), 40):
        in_test = found["test", shown]
        assert abs(in_test - 0.1 * total) <= 3 * np.sqrt(0.1 * 0.9 * total)
        assert abs(found["val", shown] - 0.2 / 0.9 * (total - in_test)) <= 1  # stratified


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 3), min_size=200, max_size=300),
    removed=st.sets(st.integers(0, 199), max_size=60),
    relabelled=st.sets(st.integers(0, 199), max_size=60),
    seed=st.integers(0, 5),
)
def test_whether_an_image_is_in_test_depends_on_no_other_image_and_no_label(labels, removed, relabelled, seed):
    # Without a history of the first version; with 200 images and more no class is rare.
    config = SplitConfig(seed=seed)
    before = by_key(assign_splits(made_up([{c} for c in labels]), config))
    changed = made_up([{(c + 1) % 4 if i in relabelled else c} for i, c in enumerate(labels)])
    kept = changed.take([i for i in range(len(labels)) if i not in removed])
    after = by_key(assign_splits(kept, config))
    moved = {key for key in after if (after[key] == "test") != (before[key] == "test")}
    rare = {
        c
        for c in range(4)
        if min(labels.count(c), sum(c in kept.boxes_of(r).class_ids for r in range(kept.num_images))) < 60
    }
    assert not moved or rare


def test_seed_matters():
    dataset = made_up([{i % 3} for i in range(60)])
    first, second = (by_key(assign_splits(dataset, SplitConfig(seed=s))) for s in (0, 1))
    assert first != second


@pytest.mark.parametrize("count", [1, 2])
def test_a_rare_class_is_trained_on(count):
    labels = [{0}] * 30 + [{1}] * count
    splits = assign_splits(made_up(labels), SplitConfig()).column("split")
    assert set(splits[30:]) == {"train"}


def test_a_rare_class_hidden_in_a_large_group_is_trained_on():
    labels = [{0, 1}] * 5 + [{0}] * 30
    splits = assign_splits(made_up(labels, groups=["g"] * 5 + [""] * 30), SplitConfig()).column("split")
    assert set(splits[:5]) == {"train"}


def test_given_splits_are_kept():
    splits = ["train"] * 5 + ["val"] * 3 + ["test"] * 2 + ["unlabelled"]
    result = assign_splits(made_up([{0}] * 11, splits), SplitConfig())
    assert result.column("split") == splits
    assert result.notes == ()


def test_half_of_a_large_val_becomes_test():
    splits = ["train"] * 60 + ["val"] * 40 + ["unlabelled"] * 5
    result = assign_splits(made_up([{i % 2} for i in range(105)], splits), SplitConfig())
    test = result.split_counts()["test"]
    assert abs(test - 20) <= 3 * np.sqrt(10)
    assert result.split_counts() == {"train": 60, "val": 40 - test, "test": test, "unlabelled": 5}
    assert result.column("split")[:60] == ["train"] * 60
    given = "The data set gives 60 train and 40 val images but no test"
    assert result.notes == (f"{given}: half of val becomes test ({test} images); {40 - test} stay val.",)


def test_test_is_cut_from_both_where_val_is_small():
    splits = ["train"] * 190 + ["val"] * 10
    result = assign_splits(made_up([{i % 2} for i in range(200)], splits), SplitConfig(val=0.2, test=0.2))
    counts = result.split_counts()
    assert 35 <= counts["test"] <= 45
    assert 7 <= counts["val"] <= 9
    assert "only 10 val images and no test" in result.notes[0]
    one = assign_splits(made_up([{0}] * 50, ["train"] * 49 + ["val"]), SplitConfig())
    assert one.split_counts()["val"] == 1


def test_a_group_that_reaches_into_train_does_not_become_test():
    splits = ["train"] * 10 + ["val"] * 10
    groups = [f"g{i}" for i in range(8)] + ["x", "y"] + [f"g{i}" for i in range(8)] + ["v", "w"]
    result = assign_splits(made_up([{0}] * 20, splits, groups), SplitConfig())
    assert set(result.column("split")[10:18]) == {"val"}
    assert sorted(result.column("split")[18:]) == ["test", "val"]


def test_val_is_cut_from_train():
    splits = ["train"] * 80 + ["test"] * 20
    result = assign_splits(made_up([{i % 4} for i in range(100)], splits), SplitConfig(val=0.16))
    counts = result.split_counts()
    assert counts["test"] == 20
    assert abs(counts["val"] - 16) <= 1
    assert "no val" in result.notes[0]


def test_only_train_is_cut_in_three():
    result = assign_splits(made_up([{i % 4} for i in range(100)], ["train"] * 100), SplitConfig())
    assert set(result.split_counts()) == set(LABELLED)
    assert "gives only train: its 100 images were split with seed 0" in result.notes[0]


def test_images_without_split_among_others_become_train():
    splits = ["train"] * 5 + ["val"] * 3 + ["test"] * 2 + [""]
    result = assign_splits(made_up([{0}] * 11, splits), SplitConfig())
    assert result.column("split")[-1] == "train"
    assert "1 image had no split" in result.notes[0]


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ([""] * 2, "2 images in 2 groups that must stay together are too few for a"),
        (["train"] * 9 + ["val"], "too few for a"),
        (["unlabelled"] * 3, "no labelled images to split"),
        (["val"] * 5, "gives val but no train images"),
        (["val", "test"], "gives test and val but no train"),
    ],
)
def test_an_empty_split_is_refused(splits, message):
    # One group in train and val leaves nothing to cut test from.
    groups = ["g"] * 10 if len(splits) == 10 else None
    dataset = made_up([{0}] * len(splits), splits, groups)
    with pytest.raises(DataError) as error:
        assign_splits(dataset, SplitConfig())
    assert message in str(error.value)


@pytest.mark.parametrize("count", [3, 4, 6, 12])
def test_few_images_still_fill_all_splits(count):
    assert set(assign_splits(made_up([{0}] * count), SplitConfig()).split_counts()) == set(LABELLED)


@pytest.mark.real_data
def test_real_steel_keeps_its_training_images(real_data):
    result = assign_splits(read_as(real_data / "vision", "vision", "steel", products=("Steel",)), SplitConfig())
    counts = result.split_counts()
    assert counts == {"train": 1260, "val": 270 - counts["test"], "test": counts["test"], "unlabelled": 270}
    assert abs(counts["test"] - 135) <= 3 * np.sqrt(270 / 4)
    raw = json.loads((real_data / "vision/Steel/val/_annotations.coco.json").read_text())
    shown = {(a["image_id"], a["category_id"]) for a in raw["annotations"]}
    names = {i["id"]: f"Steel/val/{i['file_name']}" for i in raw["images"]}
    side = by_key(result)
    for class_id in range(6):
        images = [side[names[i]] for i, c in shown if c == class_id]
        assert abs(images.count("val") - images.count("test")) <= 3 * np.sqrt(len(images))
    assert np.isin(result.column("split"), [s.value for s in Split]).all()
