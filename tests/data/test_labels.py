"""Labels of whole images, from folders and tables through validation, cleaning and splitting."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.images import picture
from visionops.data.audit import describe_labels, pick_examples, render_label_audit
from visionops.data.cleaning import clean
from visionops.data.dataset import Dataset
from visionops.data.findings import Code, Severity
from visionops.data.formats import read_dataset
from visionops.data.hashing import hash_images
from visionops.data.layers import Attribute
from visionops.data.settings import DataConfig, SplitConfig, ValidationPolicy
from visionops.data.shards import pack_shards, unpack_shards
from visionops.data.splitting.assignment import assign_splits
from visionops.data.validation.judging import validate
from visionops.data.validation.report import ValidationReport
from visionops.errors import ValidationStopped

LENIENT = ValidationPolicy(min_images=1, severities=dict.fromkeys(Code, Severity.WARNING))


def write(root: Path, files: dict[str, int]) -> Path:
    """Write image files from a mapping of places to picture seeds; the same seed gives the same bytes."""
    for name, seed in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(root / name)
    return root


def folders(root: Path, files: dict[str, int], **data) -> Dataset:
    source = {"kind": "folder", "path": write(root, files)}
    return read_dataset(root, DataConfig.model_validate({"source": source, "format": "folders", **data}), "parts")


def table(root: Path, rows: str, files: dict[str, int], **data) -> Dataset:
    write(root, files)
    (root / "attributes.csv").write_text(rows, encoding="utf-8")
    source = {"kind": "folder", "path": root}
    return read_dataset(root, DataConfig.model_validate({"source": source, "format": "table", **data}), "parts")


def found(report: ValidationReport, code: Code) -> list[tuple[str, str]]:
    return [(f.where, f.message) for f in report.findings if f.code is code]


def one_each(**counts: int) -> dict[str, int]:
    """Return files ``{class}/{seed}.png``, each with its own picture."""
    names = [name for name, count in counts.items() for _ in range(count)]
    return {f"{name}/{seed}.png": seed for seed, name in enumerate(names)}


def made_up(class_ids: list[list[int]], groups: list[str] | None = None, splits: list[str] | None = None) -> Dataset:
    """Return images with labels and no files: one row per image, one column per attribute of four classes; -1:
    unknown."""
    keys = [f"{i:05d}.jpg" for i in range(len(class_ids))]
    columns = {"key": keys, "sha256": [hashlib.sha256(key.encode()).hexdigest() for key in keys]}
    columns |= {"group": groups or [""] * len(keys), "split": splits or [""] * len(keys)}
    attributes = [Attribute(f"a{k}", ("0", "1", "2", "3")) for k in range(len(class_ids[0]))]
    labels = {a.name: [ids[k] if ids[k] >= 0 else None for ids in class_ids] for k, a in enumerate(attributes)}
    return Dataset.from_columns("made-up", (), columns, {}, attributes=attributes, labels=labels)


# Validation


def test_healthy_labels_give_no_finding(tmp_path):
    report = validate(folders(tmp_path, one_each(cat=5, dog=5)), ValidationPolicy())
    assert report.findings == ()
    assert report.counts["classes"] == {"cat": {"": 5}, "dog": {"": 5}}


def test_a_class_of_one_image_stops(tmp_path):
    report = validate(folders(tmp_path, one_each(cat=11, dog=1)), ValidationPolicy())
    assert found(report, Code.SINGLE_IMAGE) == [
        (
            "class dog",
            "1 image in the whole data set, which cannot both train and test a model; add images, or merge classes",
        )
    ]
    with pytest.raises(ValidationStopped, match="class dog: 1 image in the whole data set"):
        report.raise_if_stopped()


def test_a_class_of_copies_is_a_class_of_one_image(tmp_path):
    report = validate(folders(tmp_path, one_each(cat=10) | {"dog/x.png": 77, "dog/y.png": 77}), LENIENT)
    assert [where for where, _ in found(report, Code.SINGLE_IMAGE)] == ["class dog"]


def test_a_class_is_counted_in_train_where_train_is_given(tmp_path):
    files = {f"train/cat/{i}.png": i for i in range(10)} | {
        f"test/{c}/{i}.png": i for i, c in enumerate(("cat", "dog"), 20)
    }
    report = validate(folders(tmp_path, files | {"train/fox/30.png": 30, "train/fox/31.png": 31}), LENIENT)
    assert found(report, Code.TOO_FEW_INSTANCES) == [
        ("class dog", "0 images in train, at least 1 are needed; add some, or merge classes")
    ]
    assert found(report, Code.CLASS_IMBALANCE) == []


def test_an_attribute_with_one_value_only(tmp_path):
    rows = "file,a,b\n" + "".join(f"s1/{i}.png,yes,{i % 2}\n" for i in range(10))
    report = validate(table(tmp_path, rows, {f"s1/{i}.png": i for i in range(10)}), ValidationPolicy())
    assert [(f.code, f.severity, f.where) for f in report.findings] == [(Code.SINGLE_VALUE, Severity.ERROR, "a")]
    assert report.findings[0].message.startswith(
        "every image is yes in the whole data set, so there is nothing to learn"
    )


def test_an_attribute_without_known_values(tmp_path):
    rows = "file,a,b\n" + "".join(f"s1/{i}.png,,{i % 2}\n" for i in range(4))
    report = validate(table(tmp_path, rows, {f"s1/{i}.png": i for i in range(4)}), LENIENT)
    assert found(report, Code.SINGLE_VALUE)[0][1].startswith("no image has a label in the whole data set")


def test_labels_that_are_not_known_are_counted(tmp_path):
    rows = "file,a,b\n" + "".join(f"s1/{i}.png,{i % 2},{'' if i < 3 else i % 2}\n" for i in range(12))
    report = validate(table(tmp_path, rows, {f"s1/{i}.png": i for i in range(13)}), ValidationPolicy())
    assert [(f.code, f.severity, f.where) for f in report.findings] == [(Code.MISSING_LABEL, Severity.INFO, "b")]
    assert report.findings[0].message == "not known for 3 of 12 images, which do not count for it"


def test_imbalance_is_judged_for_each_attribute(tmp_path):
    rows = "file,a,b\n" + "".join(f"s1/{i}.png,{int(i < 2)},{i % 2}\n" for i in range(22))
    report = validate(table(tmp_path, rows, {f"s1/{i}.png": i for i in range(22)}), ValidationPolicy())
    assert found(report, Code.CLASS_IMBALANCE) == [
        (
            "a 0",
            (
                "20 images against 2 of 1 in the whole data set, a ratio of 10 to 1; "
                "add images of the rare class, or set training.balance"
            ),
        )
    ]


def test_a_row_without_its_file_is_found_by_its_line(tmp_path):
    report = validate(table(tmp_path, "file,a\ns1/0.png,0\ns1/1.png,1\n", {"s1/0.png": 0}), LENIENT)
    assert found(report, Code.MISSING_IMAGE)[0][0] == "attributes.csv:3"


# Cleaning


def test_the_same_file_with_different_labels_is_left_out_everywhere(tmp_path):
    files = one_each(cat=4, dog=4) | {"cat/same.png": 99, "dog/same.png": 99, "dog/copy.png": 4}
    dataset = folders(tmp_path, files)
    report = validate(dataset, LENIENT)
    assert found(report, Code.CONFLICTING_LABEL) == [
        (
            "cat/same.png",
            "the same file as dog/same.png, but class is cat and dog; all are left out: correct their labels",
        )
    ]
    assert [where for where, _ in found(report, Code.DUPLICATE_IMAGE)] == ["dog/4.png"]
    cleaned = clean(dataset, report)
    assert sorted(set(files) - set(cleaned.column("key"))) == ["cat/same.png", "dog/copy.png", "dog/same.png"]
    assert "2 images left out: the same file has different labels." in cleaned.notes
    assert "1 repeated file within one split left out; the first stays." in cleaned.notes


def test_a_conflict_across_splits_is_no_leak(tmp_path):
    files = {
        f"{split}/{c}/{i}.png": 10 * i + k
        for k, split in enumerate(("train", "test"))
        for i, c in enumerate(("a", "b"))
    }
    dataset = folders(
        tmp_path, files | {"train/a/same.png": 99, "test/b/same.png": 99, "test/a/leak.png": 98, "train/a/leak.png": 98}
    )
    report = validate(dataset, LENIENT)
    assert [len(found(report, code)) for code in (Code.CONFLICTING_LABEL, Code.LEAK)] == [1, 1]
    kept = clean(dataset, report).column("key")
    assert "test/a/leak.png" in kept
    assert not {"train/a/leak.png", "train/a/same.png", "test/b/same.png"} & set(kept)


def test_an_unknown_label_contradicts_nothing(tmp_path):
    rows = "file,a,b\ns1/0.png,0,1\ns1/1.png,0,\ns1/2.png,1,0\n"
    dataset = table(tmp_path, rows, {"s1/0.png": 5, "s1/1.png": 5, "s1/2.png": 6, "s1/3.png": 5})
    report = validate(dataset, LENIENT)
    assert found(report, Code.CONFLICTING_LABEL) == []
    assert clean(dataset, report).column("key") == ["s1/0.png", "s1/2.png", "s1/3.png"]


def test_near_duplicates_with_different_labels_are_reported(tmp_path):
    dataset = folders(tmp_path, one_each(cat=3, dog=3))
    picture(0).save(tmp_path / "dog/again.jpg", quality=95)
    dataset = folders(tmp_path, {})
    report = validate(dataset, LENIENT)
    assert found(report, Code.NEAR_DUPLICATE) == [
        ("cat/0.png", "looks the same as dog/again.jpg; class is cat and dog; kept together when splits are cut")
    ]


# Splits


@settings(max_examples=40, deadline=None)
@given(
    class_ids=st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 3)), min_size=12, max_size=120),
    config=st.builds(SplitConfig, val=st.floats(0.1, 0.3), test=st.floats(0.1, 0.3), seed=st.integers(0, 5)),
)
def test_classes_of_every_attribute_reach_every_split_they_can(class_ids, config):
    dataset = made_up([list(ids) for ids in class_ids])
    result = assign_splits(dataset, config)
    shown, splits = result.presence(), np.array(result.column("split"), dtype=object)
    assert result.split_counts().keys() == {"train", "val", "test"}
    for column, name in enumerate(result.all_class_names):
        holders = Counter(splits[shown[:, column]])
        if holders:
            assert holders["train"]
        for split in ("val", "test"):
            notes = [note for note in result.notes if f"is in {split}" in note]
            said = any(name in note for note in notes)
            assert not (said and holders[split])
            assert said or holders[split] or " more is" in notes[0]


@pytest.mark.parametrize("seed", range(5))
def test_one_label_is_split_by_its_shares(seed):
    class_ids = [[0]] * 100 + [[1]] * 40 + [[2]] * 3
    result = assign_splits(made_up(class_ids), SplitConfig(val=0.2, test=0.2, seed=seed))
    per_split = {
        s: result.presence()[np.array(result.column("split")) == s].sum(axis=0).tolist()
        for s in ("train", "val", "test")
    }
    assert [counts[2] for counts in per_split.values()] == [1, 1, 1]  # a class of three images is in every split
    for split, share in ("train", 0.6), ("val", 0.2), ("test", 0.2):
        for found, total in zip(per_split[split], (100, 40), strict=False):
            assert abs(found - share * total) <= 3 * np.sqrt(share * (1 - share) * total)


def test_a_class_of_two_images_is_trained_not_tested_and_reported():
    class_ids = [[c] for c in (0, 1, 2) for _ in range(20)] + [[3]] * 2
    result = assign_splits(made_up(class_ids), SplitConfig())
    assert result.column("split")[-2:] == ["train", "train"]
    assert result.notes[-2:] == (
        "No image of 3 is in val; its metrics do not cover them.",
        "No image of 3 is in test; its metrics do not cover them.",
    )


def test_a_group_column_stays_on_one_side(tmp_path):
    rows = "file,a,part\n" + "".join(f"s1/{i}.png,{i % 2},p{i // 3}\n" for i in range(30))
    dataset = table(tmp_path, rows, {f"s1/{i}.png": i for i in range(30)}, group_column="part")
    split_of = dict(zip(dataset.column("key"), assign_splits(dataset, SplitConfig()).column("split"), strict=True))
    assert set(split_of.values()) == {"train", "val", "test"}
    for part in range(10):
        assert len({split_of[f"s1/{i}.png"] for i in range(3 * part, 3 * part + 3)}) == 1


# Pictures


def test_examples_show_every_class_and_one_that_is_not_known():
    dataset = made_up([[0, 0]] * 50 + [[1, 0], [0, 2]] + [[-1, -1]])
    picked = pick_examples(dataset, 6)
    assert {50, 51, 52} <= set(picked)
    assert describe_labels(dataset)[50:] == ["a0=1, a1=0", "a0=0, a1=2", ""]


def test_the_audit_goes_class_after_class(tmp_path):
    dataset = folders(tmp_path, one_each(cat=5, dog=3))
    sheet = render_label_audit(dataset, 4, tile=100)
    order = sorted(pick_examples(dataset, 4), key=lambda row: dataset.label_array()[row, 0])
    assert describe_labels(dataset)[order[0]] == "cat"
    assert describe_labels(dataset)[order[-1]] == "dog"
    requested = render_label_audit(dataset, order, tile=100)
    assert np.array_equal(np.asarray(sheet), np.asarray(requested))


def test_many_labels_wrap_below_their_image(tmp_path):
    rows = "file,left,right,colour\n" + "".join(f"s1/{i}.png,{i % 2},{i % 3},blue{i % 2}\n" for i in range(6))
    dataset = table(tmp_path, rows, {f"s1/{i}.png": i for i in range(6)})
    one = Dataset.from_columns("one", (), {"key": dataset.column("key"), "path": dataset.column("path")}, {})
    assert render_label_audit(dataset, 6, tile=150).height > render_label_audit(one, 6, tile=150).height + 2 * 30


def test_the_card_shows_labels(tmp_path):
    rows = "file,glasses,hair\n" + "".join(f"s1/{i}.png,{i % 2},<b>{i % 3}</b>\n" for i in range(12))
    page = validate(table(tmp_path, rows, {f"s1/{i}.png": i for i in range(13)}), ValidationPolicy()).card
    assert "without labels" in page
    assert "boxes" not in page.partition("<body>")[2]
    assert "glasses=1, hair=&lt;b&gt;1&lt;/b&gt;" in page
    assert '<h3 class="attribute">hair</h3>' in page
    assert "<b>1</b>" not in page


# Travelling


def test_labels_weights_and_notes_survive_saving_and_shards(tmp_path):
    rows = "file,a,p\ns1/0.png,0,0.1\ns1/1.png,1,0.9\ns1/2.png,,0.9\n"
    weights = {"column": "p", "values": {0: 1, 1: 0.5}}
    labels = {"a": {"classes": {"no": [0], "yes": [1]}}}
    dataset = hash_images(
        table(
            tmp_path / "in", rows, {f"s1/{i}.png": i for i in range(3)}, weights=weights, labels=labels, notes=["Hm."]
        )
    )
    dataset.save(tmp_path / "saved")
    loaded = Dataset.load(tmp_path / "saved")
    assert loaded == dataset
    store = tmp_path / "store"
    store.mkdir()
    index = pack_shards(dataset, str(store), open, lambda path: Path(path).exists())
    shutil.rmtree(tmp_path / "in")
    unpacked = unpack_shards(loaded, str(store), index, open, tmp_path / "cache")
    assert unpacked.labels.to_pylist() == [{"a": 0}, {"a": 1}, {"a": None}]
    assert unpacked.attributes == (Attribute("a", ("no", "yes"), "yes"),)
    assert unpacked.column("weight") == [1.0, 0.5, 0.5]
    assert unpacked.notes[-1] == "Hm."
    assert all(path.is_file() for path in unpacked.paths())
    assert unpacked.fingerprint() == dataset.fingerprint()


def test_a_report_on_labels_survives_saving(tmp_path):
    report = validate(folders(tmp_path / "in", one_each(cat=5, dog=1)), LENIENT)
    report.save(tmp_path / "saved")
    assert ValidationReport.load(tmp_path / "saved").findings == report.findings
    assert json.loads((tmp_path / "saved/report.json").read_text())["counts"]["classes"] == {
        "cat": {"": 5},
        "dog": {"": 1},
    }


# Real images


def prepared(root: Path, **data) -> tuple[ValidationReport, Dataset]:
    config = DataConfig.model_validate({"source": {"kind": "folder", "path": root}, **data})
    dataset = hash_images(read_dataset(root, config, "real"))
    report = validate(dataset, ValidationPolicy())
    report.raise_if_stopped()
    return report, assign_splits(clean(dataset, report), config.split)


def test_the_leak_of_casting_is_found_and_fixed(real_data):
    rule = {"classes": {"ok": ["ok_front"], "defective": ["def_front"]}}
    report, dataset = prepared(real_data / "casting", format="folders", labels={"condition": rule})
    assert report.counts_by_code()[Code.LEAK] == 27
    assert report.counts["classes"] == {name: {"train": 50, "test": 50} for name in ("ok", "defective")}
    assert "27 images of train left out: the same file is in test, which keeps it." in dataset.notes
    assert dataset.split_counts() == {"train": 48, "val": 25, "test": 100}
    assert len(set(dataset.column("sha256"))) == dataset.num_images == 173
    assert dataset.attributes[0].positive == "defective"
    for key, answer in zip(dataset.column("key"), describe_labels(dataset), strict=True):
        assert answer == ("defective" if "/def_front/" in key else "ok")


def test_plants_are_split_evenly(real_data):
    _, dataset = prepared(real_data / "plants", format="folders")
    splits = np.array(dataset.column("split"))
    assert dataset.attributes[0].class_names == ("dandelion", "grass")
    for split, share in ("train", 0.7), ("val", 0.15), ("test", 0.15):
        for found in dataset.presence()[splits == split].sum(axis=0).tolist():
            assert abs(found - share * 200) <= 3 * np.sqrt(share * (1 - share) * 200)


def test_faces_of_lot_three_are_for_inference(real_data):
    _, dataset = prepared(real_data / "faces", format="table", lots=["s1", "s2", "s3"])
    names = ["beard", "mustache", "glasses", "hair_color", "hair_length"]
    assert [attribute.name for attribute in dataset.attributes] == names
    unlabelled = [k for k, s in zip(dataset.column("key"), dataset.column("split"), strict=True) if s == "unlabelled"]
    assert len(unlabelled) == 240
    assert all(key.startswith("s3/") for key in unlabelled)
    rows = [line.split(",") for line in (real_data / "faces/attributes.csv").read_text().splitlines()[1:]]
    assert dataset.label_array()[:960].tolist() == [[int(cell) for cell in row[1:]] for row in rows]


def test_the_solar_package_needs_only_yaml():
    from importlib.util import find_spec

    from visionops.data.sources import fetch

    if find_spec("elpv_dataset") is None:
        pytest.skip("elpv-dataset is not installed")
    rule = {"column": "probability", "ranges": {"functional": [0, 0.1], "defective": [0.9, 1]}}
    raw = {
        "source": {"kind": "package", "package": "elpv-dataset", "folder": "elpv_dataset/data"},
        "format": "table",
        "table": "labels.csv",
        "delimiter": "whitespace",
        "columns": ["path", "probability", "type"],
        "labels": {"cell": rule | {"drop": [0.3333333333333333, 0.6666666666666666]}},
        "weights": {"column": "probability", "values": {0: 1, 0.33: 0.5, 0.67: 0.5, 1: 1}},
    }
    config = DataConfig.model_validate(raw)
    dataset = read_dataset(fetch(config.source, Path()), config, "solar")
    assert dataset.presence().sum(axis=0).tolist() == [1508, 715]
    assert set(dataset.column("split")) == {""}
    assert any(note.startswith("401 images left out") for note in dataset.notes)
    raw["labels"] = {"cell": rule | {"ranges": {"functional": [0, 0.5], "defective": [0.5001, 1]}}}
    kept = read_dataset(fetch(config.source, Path()), DataConfig.model_validate(raw), "solar")
    assert Counter(kept.column("weight")) == {1.0: 2223, 0.5: 401}
