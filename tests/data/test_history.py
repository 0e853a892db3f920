"""Splits are permanent: no image tests a model whose lineage was trained or selected on it."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest

from benchmarks.splits import simulate
from tests.helpers import images
from visionops.data.additions import ADDED, add_images
from visionops.data.cleaning import clean
from visionops.data.dataset import Dataset, Split
from visionops.data.findings import Code
from visionops.data.hashing import hash_images
from visionops.data.history import SplitHistory
from visionops.data.layers import Attribute
from visionops.data.settings import SplitConfig, ValidationPolicy
from visionops.data.splitting.assignment import assign_splits
from visionops.data.validation.judging import validate
from visionops.errors import DataError

POLICY = ValidationPolicy(min_images=1)
LABEL = Attribute("class", ("ok", "pit"))


def labelled(root, files: dict[str, bytes], splits: dict[str, str] | None = None) -> Dataset:
    """Return images on disk, hashed; every second one has another class."""
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    columns = {"key": list(files), "path": [str(root / name) for name in files]}
    columns["split"] = [(splits or {}).get(name, "") for name in files]
    labels = {"class": [i % 2 for i in range(len(files))]}
    return hash_images(Dataset.from_columns("parts", (), columns, {}, attributes=(LABEL,), labels=labels))


def cleaned(dataset: Dataset) -> Dataset:
    return clean(dataset, validate(dataset, POLICY))


def by_key(dataset: Dataset) -> dict[str, str]:
    return dict(zip(dataset.column("key"), dataset.column("split"), strict=True))


def pictures(count: int, first: int = 0) -> dict[str, bytes]:
    return {f"{seed}.png": images.encode(images.picture(seed), "PNG") for seed in range(first, first + count)}


def frame(part: int, number: int) -> bytes:
    """Return a photograph of a part: photographs of one part differ only by the noise of the sensor."""
    noise = np.random.default_rng([part, number]).integers(-3, 4, (images.HEIGHT, images.WIDTH, 3))
    pixels = np.clip(np.asarray(images.picture(part), dtype=int) + noise, 0, 255).astype(np.uint8)
    return images.encode(images.Image.fromarray(pixels), "PNG")


def test_random_histories_never_test_on_trained_images():
    outcomes = [simulate(seed) for seed in range(20)]
    assert sum(outcome.violations for outcome in outcomes) == 0
    assert sum(outcome.versions for outcome in outcomes) > 200
    dealt = sum((outcome.dealt for outcome in outcomes), Counter())
    assert dealt["test"] / dealt.total() == pytest.approx(0.15, abs=0.06)


def test_the_simulation_detects_a_lost_history(monkeypatch):
    monkeypatch.setattr(SplitHistory, "merged", lambda self, *_others: self)
    assert sum(simulate(seed).violations for seed in range(5)) > 0


def test_a_second_frame_of_each_part_goes_where_the_first_is(tmp_path):
    base = assign_splits(cleaned(labelled(tmp_path / "base", pictures(60))), SplitConfig())
    first = {f"{part}-0.png": frame(1000 + part, 0) for part in range(40)}
    second = first | {f"{part}-1.png": frame(1000 + part, 1) for part in range(40)}

    def grown(name, files, history):
        added = labelled(tmp_path / name, files)
        added = added.replace_column("key", [ADDED + key for key in added.column("key")])
        return add_images(base, added, POLICY, SplitConfig(), history=history)

    week1 = grown("week1", first, None)
    week2 = grown("week2", second, SplitHistory.of(week1))
    assert by_key(week1).items() <= by_key(week2).items()
    for part in range(40):
        assert by_key(week2)[f"{ADDED}{part}-1.png"] == by_key(week1)[f"{ADDED}{part}-0.png"]


def test_one_more_look_alike_does_not_scatter_a_group(tmp_path):
    # Twenty-one frames of one part: too many for a group in a small data set, unless they were assigned together
    # before.
    files = pictures(20) | {f"part-{i}.png": frame(500, i) for i in range(20)}
    before = assign_splits(cleaned(labelled(tmp_path, files)), SplitConfig())
    sides = {split for key, split in by_key(before).items() if key.startswith("part-")}
    assert len(sides) == 1
    more = files | {f"part-{i}.png": frame(500, i) for i in range(20, 60)}
    after = assign_splits(cleaned(labelled(tmp_path, more)), SplitConfig(), SplitHistory.of(before))
    assert {split for key, split in by_key(after).items() if key.startswith("part-")} == sides
    assert by_key(before).items() <= by_key(after).items()


def test_an_image_that_comes_back_re_encoded_keeps_its_split(tmp_path):
    files = pictures(60)
    before = assign_splits(cleaned(labelled(tmp_path / "a", files)), SplitConfig())
    # All are replaced: none of the earlier files exists any more.
    again = {f"{seed}.jpg": images.encode(images.picture(seed, 200, 150), "JPEG", quality=70) for seed in range(60)}
    after = assign_splits(cleaned(labelled(tmp_path / "b", again)), SplitConfig(), SplitHistory.of(before))
    assert {key[:-4]: split for key, split in by_key(after).items()} == {k[:-4]: s for k, s in by_key(before).items()}
    assert "60 images more got the split of the images that they look like" in after.notes[-1]


def test_new_splits_of_a_tool_do_not_move_known_images(tmp_path):
    files = pictures(60)
    before = by_key(assign_splits(cleaned(labelled(tmp_path, files)), SplitConfig()))
    history = SplitHistory.of(assign_splits(cleaned(labelled(tmp_path, files)), SplitConfig()))
    exported = dict(zip(files, np.random.default_rng(0).permutation(list(before.values())).tolist(), strict=True))
    result = assign_splits(cleaned(labelled(tmp_path, files, exported)), SplitConfig(), history)
    assert by_key(result) == before
    moved = [key for key in files if exported[key] != before[key]]
    (finding,) = [f for f in result.findings if f.code is Code.CHANGED_SPLIT]
    assert sorted(finding.images) == sorted(moved)
    assert f"{len(moved)} images: the data set gives another split than earlier versions" in finding.message


def test_an_image_between_two_splits_is_left_out_and_named(tmp_path):
    one, other = np.asarray(images.picture(1), dtype=float), np.asarray(images.picture(2), dtype=float)

    def mixed(share: float) -> bytes:
        mix = images.Image.fromarray((share * one + (1 - share) * other).astype(np.uint8))
        return images.encode(mix, "PNG")

    ends = {"a.png": mixed(0.58), "b.png": mixed(0.42)}
    history = SplitHistory.of(cleaned(labelled(tmp_path, pictures(20, 10) | ends)).replace_column(
        "split", ["train"] * 10 + ["val"] * 5 + ["test"] * 5 + ["train", "test"]
    ))  # fmt: skip
    result = assign_splits(
        cleaned(labelled(tmp_path, pictures(20, 10) | ends | {"mid.png": mixed(0.5)})), SplitConfig(), history
    )
    assert "mid.png" not in by_key(result)
    assert by_key(result)["a.png"] == "train"
    assert by_key(result)["b.png"] == "test"
    (finding,) = [f for f in result.findings if f.code is Code.NEAR_LEAK]
    assert finding.where == "mid.png"
    assert "looks like images that are in train and test in earlier versions" in finding.message


def test_images_without_a_split_follow_their_look_alikes(tmp_path):
    files = pictures(32)
    names = list(files)
    splits = dict(zip(names, ["train"] * 20 + ["val"] * 6 + ["test"] * 6, strict=True))
    like_test = {f"more-{i}.png": frame(26 + i, 1) for i in range(6)}
    dataset = labelled(tmp_path, files | like_test | {"alone.png": frame(900, 0)}, splits)
    report = validate(dataset, POLICY)
    (finding,) = [f for f in report.findings if f.code is Code.MISSING_SPLIT]
    assert len(finding.images) == 7
    result = assign_splits(clean(dataset, report), SplitConfig())
    assert {by_key(result)[name] for name in like_test} == {"test"}
    assert by_key(result)["alone.png"] == "train"
    assert any("7 images had no split, unlike the others: 6 went to the split" in note for note in result.notes)


def test_a_relabelled_copy_of_a_test_image_costs_no_test_image(tmp_path):
    base = assign_splits(cleaned(labelled(tmp_path / "base", pictures(60))), SplitConfig())
    test = base.select_split(Split.TEST)
    copies = {f"copy{i}.png": path.read_bytes() for i, path in enumerate(test.paths()[:3])}
    added = labelled(tmp_path / "new", copies | pictures(3, 500))
    wrong = [1 - label for label in test.label_array()[:3, 0].tolist()] + [0, 1, 0]
    added = Dataset.from_columns(
        "new",
        (),
        {
            "key": [ADDED + k for k in added.column("key")],
            "path": added.column("path"),
            "sha256": added.column("sha256"),
        },
        {},
        attributes=(LABEL,),
        labels={"class": wrong},
    )
    grown = add_images(base, added, POLICY, SplitConfig())
    assert by_key(base).items() <= by_key(grown).items()
    conflicts = [f for f in grown.findings if f.code is Code.CONFLICTING_LABEL]
    assert [f.images for f in conflicts] == [(f"{ADDED}copy{i}.png", test.column("key")[i]) for i in range(3)]
    assert all("the label of the data set stays" in f.message for f in conflicts)
    assert any(f"{ADDED}copy0.png: the same file as {test.column('key')[0]}" in note for note in grown.notes)


def test_images_trained_on_in_any_lineage_count_as_trained_on():
    def one(split: str) -> SplitHistory:
        columns = {"key": ["a"], "sha256": [hashlib.sha256(b"a").hexdigest()], "split": [split]}
        return SplitHistory.of(Dataset.from_columns("d", (), columns, {}))

    for strongest, others in (("train", ["val", "test"]), ("val", ["test"])):
        for other in others:
            assert one(other).merged(one(strongest)).counts() == {strongest: 1}
            assert one(strongest).merged(one(other)).counts() == {strongest: 1}
    digest = hashlib.sha256(b"a").hexdigest()
    left_out = SplitHistory.of(Dataset.from_columns("d", (), {"key": []}, {}), [digest])
    assert left_out.counts() == {"": 1}
    assert left_out.merged(one("test")).counts() == {"test": 1}


def test_a_history_is_read_as_it_was_written(tmp_path):
    history = SplitHistory.of(assign_splits(cleaned(labelled(tmp_path, pictures(20))), SplitConfig()), ["ab" * 32])
    history.save(tmp_path / "saved")
    assert SplitHistory.load(tmp_path / "saved").rows.equals(history.rows)
    assert history.merged(history).rows.equals(history.rows)
    (tmp_path / "saved" / "splits.parquet").write_bytes(b"no table")
    with pytest.raises(DataError, match="not a history of splits"):
        SplitHistory.load(tmp_path / "saved")


def looking(looks: np.ndarray, names: str, splits: list[str] | None = None) -> Dataset:
    """Return images with only a look; the perceptual hash is the same for all."""
    keys = [f"{names}{i:03d}.png" for i in range(len(looks))]
    columns = {"key": keys, "sha256": [hashlib.sha256(key.encode()).hexdigest() for key in keys]}
    columns |= {"split": splits or [""] * len(keys), "phash": [5] * len(keys)}
    columns["look"] = [look.astype(np.uint8).tobytes() for look in looks]
    labels = {"class": [i % 2 for i in range(len(keys))]}
    return Dataset.from_columns("parts", (), columns, {}, attributes=(LABEL,), labels=labels)


def test_before_a_fixed_camera_each_image_follows_the_one_it_is_most_like():
    # Two hundred parts in one fixture: all thumbnails correlate by more than 0.99, and all files are replaced.
    rng = np.random.default_rng(0)
    scene = rng.integers(40, 216, (16, 16))
    parts = np.clip(scene + rng.normal(0, 4, (200, 16, 16)), 0, 255).round()
    before = assign_splits(looking(parts, "a"), SplitConfig())
    copies = np.clip(parts + rng.integers(-1, 2, parts.shape), 0, 255)
    again = looking(copies, "b")
    after = assign_splits(again, SplitConfig(), SplitHistory.of(before))
    assert after.column("split") == before.column("split")
    learned = np.isin(before.column("split"), ["train", "val"])
    assert (SplitHistory.of(before).learned_from(again, 4) == learned).all()


def test_look_alikes_do_not_depend_on_the_number_of_others():
    # Thirty images of one kind are in train; then so many more are added that they are most of the data set.
    rng = np.random.default_rng(1)
    kind, others = rng.normal(0, 40, (16, 16)), rng.normal(0, 40, (100, 16, 16))
    alike = 128 + kind + rng.normal(0, 5.5, (180, 16, 16))  # they correlate with each other by 0.98
    shown = np.clip(np.concatenate([alike[:30], 128 + others]), 0, 255)
    first = looking(shown, "a", ["train"] * 60 + ["val"] * 30 + ["test"] * 40)
    both = np.clip(np.concatenate([alike, 128 + others]), 0, 255)
    result = assign_splits(looking(both, "b"), SplitConfig(), SplitHistory.of(first))
    assert {split for key, split in by_key(result).items() if int(key[1:4]) < 180} == {"train"}


def test_an_image_that_became_unlabelled_is_still_remembered():
    rng = np.random.default_rng(2)
    looks = rng.integers(0, 256, (40, 16, 16))
    before = assign_splits(looking(looks, "a"), SplitConfig())
    moved = before.replace_column("split", ["unlabelled"] * 40)
    copies = looking(np.clip(looks + rng.integers(-2, 3, looks.shape), 0, 255), "b")
    both = Dataset.from_columns(
        "parts",
        (),
        {name: moved.column(name) + copies.column(name) for name in ("key", "sha256", "split", "phash", "look")},
        {},
        attributes=(LABEL,),
        labels={"class": [0, 1] * 40},
    )
    after = by_key(assign_splits(both, SplitConfig(), SplitHistory.of(before)))
    assert [after[key] for key in copies.column("key")] == before.column("split")


def test_a_twin_of_an_image_that_was_learned_from_is_known_beside_it():
    look = np.random.default_rng(3).integers(0, 256, (1, 16, 16))
    two = looking(np.repeat(look, 2, axis=0), "a")
    history = SplitHistory.of(two.take([0]).replace_column("split", ["train"]))
    assert history.learned_from(two, 4).tolist() == [True, True]


def test_a_split_that_history_empties_is_an_error_and_counts_are_those_of_the_data_set():
    looks = np.random.default_rng(4).integers(0, 256, (60, 16, 16))
    history = SplitHistory.of(looking(looks, "a").replace_column("split", ["train"] * 60))
    with pytest.raises(DataError, match="too few for a val split"):
        assign_splits(looking(looks, "a", ["train"] * 40 + ["val"] * 10 + ["test"] * 10), SplitConfig(), history)
    given = looking(looks, "a", ["train"] * 48 + ["val"] * 12)
    first = assign_splits(given, SplitConfig())
    second = assign_splits(given, SplitConfig(), SplitHistory.of(first))
    assert by_key(second) == by_key(first)
    test = second.split_counts()["test"]
    given_so = "gives 48 train and 12 val images but no test: half of val becomes test"
    assert any(f"{given_so} ({test} images, {test} of them since an earlier version)" in n for n in second.notes)
    only_val = SplitHistory.of(looking(looks, "a").replace_column("split", ["val"] * 60))
    with pytest.raises(DataError, match="too few for a train split"):
        assign_splits(looking(looks, "a", ["train"] * 50 + ["test"] * 10), SplitConfig(), only_val)


def test_an_image_for_inference_may_be_labelled_by_an_addition(tmp_path):
    spare = labelled(tmp_path / "base", pictures(61), {"60.png": "unlabelled"})
    base = assign_splits(cleaned(spare), SplitConfig())
    added = labelled(tmp_path / "new", {"60.png": images.encode(images.picture(60), "PNG")})
    added = added.replace_column("key", [ADDED + "60.png"])
    assert f"{ADDED}60.png" in by_key(add_images(base, added, POLICY, SplitConfig()))
