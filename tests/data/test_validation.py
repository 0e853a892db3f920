"""Findings of validation in images, boxes and the collection, and the effect of the policy."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import images
from tests.helpers.images import dataset_of
from visionops.data.dataset import Dataset
from visionops.data.findings import Code, Finding, Severity
from visionops.data.hashing import hash_images
from visionops.data.settings import ValidationPolicy
from visionops.data.validation.inspected import InspectedImages, inspect_shard
from visionops.data.validation.inspection import inspect_images
from visionops.data.validation.judging import validate, validate_inspected
from visionops.data.validation.report import ValidationReport
from visionops.errors import DataError, ValidationStopped

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

# No limits on amounts, because the tests have few images.
LENIENT = ValidationPolicy(min_images=1, min_instances=0)


def codes_of(report: ValidationReport, key: str) -> list[str]:
    return [finding.code.value for finding in report.findings if key in finding.images]


def messages(report: ValidationReport, code: Code) -> list[str]:
    return [f"{f.where}: {f.message}" for f in report.findings if f.code is code]


def healthy(count: int, start: int = 100) -> dict[str, bytes]:
    return {f"good/{seed:03}.jpg": images.jpeg(seed) for seed in range(start, start + count)}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> tuple[Dataset, ValidationReport]:
    """Return every kind of broken and special file, among healthy ones."""
    made = {name: make() for name, (_, make) in {**images.BROKEN, **images.PECULIAR}.items()}
    dataset = dataset_of(tmp_path_factory.mktemp("zoo"), {**made, **healthy(3)})
    return dataset, validate(dataset, LENIENT)


@pytest.mark.parametrize("name", images.BROKEN)
def test_every_broken_kind_is_caught_as_an_error(zoo, name):
    _, report = zoo
    expected = images.BROKEN[name][0]
    assert codes_of(report, name) == [expected]
    assert next(f for f in report.findings if name in f.images).severity is Severity.ERROR


@pytest.mark.parametrize("name", images.PECULIAR)
def test_every_peculiar_kind_is_listed_as_a_warning(zoo, name):
    _, report = zoo
    expected = images.PECULIAR[name][0]
    assert codes_of(report, name) == ([expected] if expected else [])


def test_a_message_does_not_repeat_its_place_and_is_one_line(zoo):
    _, report = zoo
    for finding in report.findings:
        assert finding.where not in finding.message
        assert "\n" not in finding.message
        assert not finding.message.startswith(":")


def test_healthy_images_give_no_finding(zoo):
    dataset, report = zoo
    assert [key for key in dataset.column("key") if key.startswith("good/") and codes_of(report, key)] == []


def test_facts_describe_each_image(zoo):
    dataset, report = zoo
    facts = {row["key"]: row for row in report.facts.to_pylist()}
    assert list(facts) == dataset.column("key")
    assert facts["truncated.jpg"]["problem"] == "truncated"
    assert (facts["truncated.jpg"]["width"], facts["truncated.jpg"]["plain"]) == (0, None)
    turned = facts["rotated.jpg"]
    assert (turned["width"], turned["height"], turned["orientation"], turned["plain"]) == (48, 64, 6, False)
    assert facts["good/100.jpg"]["plain"] is True
    assert len(facts["good/100.jpg"]["sha256"]) == 64
    assert 20 < facts["good/100.jpg"]["brightness"] < 235


def test_counts_are_of_images_boxes_splits_and_classes(tmp_path):
    files = healthy(4)
    a, b, c, d = files
    boxes = [(a, 0, (1, 1, 9, 9)), (a, 1, (2, 2, 9, 9)), (c, 0, (1, 1, 5, 5))]
    splits = {a: "train", b: "train", c: "val", d: "val"}
    report = validate(dataset_of(tmp_path, files, boxes=boxes, splits=splits), LENIENT)
    assert report.findings == ()
    assert report.verdict.startswith("No finding")
    assert report.counts == {
        "images": 4,
        "usable": 4,
        "boxes": 3,
        "splits": {"train": 2, "val": 2},
        "classes": {"scratch": {"train": 1, "val": 1}, "pit": {"train": 1, "val": 0}},
    }


def test_a_missing_file_and_an_unreadable_one_are_named(tmp_path):
    files = healthy(3)
    dataset = dataset_of(tmp_path, files)
    first, second, third = dataset.paths()
    first.unlink()
    second.unlink()
    second.mkdir()
    dataset = dataset.replace_column("path", [str(first), str(second), str(third)])
    report = validate(dataset, LENIENT)
    assert messages(report, Code.MISSING_IMAGE) == [
        "good/100.jpg: the file is missing; put it back or remove it from the labels",
        "good/101.jpg: the file cannot be read (Is a directory); put it back or remove it from the labels",
    ]


def test_an_image_without_a_path_is_missing(tmp_path):
    dataset = dataset_of(tmp_path, healthy(1)).replace_column("path", [""])
    assert validate(dataset, LENIENT).counts_by_code() == {Code.MISSING_IMAGE: 1, Code.TOO_FEW_IMAGES: 1}


def test_the_limit_of_pixels_comes_from_the_policy(tmp_path):
    report = validate(dataset_of(tmp_path, healthy(1)), ValidationPolicy(min_images=1, min_instances=0, max_pixels=100))
    assert report.counts_by_code() == {Code.TOO_MANY_PIXELS: 1, Code.TOO_FEW_IMAGES: 1}


def test_declared_sizes_are_compared_with_the_files(tmp_path):
    files = {"same.jpg": images.jpeg(1), "other.jpg": images.jpeg(2), "turned.jpg": images.rotated_jpeg()}
    report = validate(dataset_of(tmp_path, files, width=[64, 640, 64], height=[48, 480, 48]), LENIENT)
    found = messages(report, Code.SIZE_MISMATCH)
    assert len(found) == 2
    assert found[0].startswith("other.jpg: the labels say 640 x 480, the file is 64 x 48; ")
    assert "unrotated" in found[1]


def test_boxes_are_judged_against_the_real_size(tmp_path):
    boxes = [
        ("a.jpg", 0, (5, 5, 20, 20)),  # annotation 1
        ("a.jpg", 0, (-3.5, 5, 20, 20)),
        ("a.jpg", 1, (5, 5, 20, 60)),
        ("a.jpg", 1, (5, 5, 5, 20)),
        ("a.jpg", 1, (100, 5, 120, 20)),
        ("a.jpg", 0, (5, 5, 20, 20)),
        ("a.jpg", 1, (5, 5, 20, 20)),
        ("a.jpg", 1, (math.nan, 5, 20, 20)),
        ("broken.jpg", 1, (-9, 0, 900, 900)),  # its size is unknown
    ]
    files = {"a.jpg": images.jpeg(1), "broken.jpg": b""}
    dataset = dataset_of(tmp_path, files, boxes=boxes, width=[640, 640], height=[480, 480])
    report = validate(dataset, LENIENT)
    assert messages(report, Code.OUT_OF_BOUNDS_BOX) == [
        "a.jpg: annotation 2: reaches 3.5 px over the left edge; clipped to the image",
        "a.jpg: annotation 3: reaches 12 px over the lower edge; clipped to the image",
    ]
    degenerate = messages(report, Code.DEGENERATE_BOX)
    assert degenerate[0] == ("a.jpg: annotation 4: pit (5, 5, 5, 20) has no area inside; draw it again or remove it")
    assert degenerate[1].startswith("a.jpg: annotation 5: ")
    assert len(degenerate) == 2
    assert messages(report, Code.DUPLICATE_BOX) == [
        "a.jpg: annotation 6: equals annotation 1 in class and place; only one is kept"
    ]
    assert [m.split(": has")[0] for m in messages(report, Code.BAD_BOX)] == ["a.jpg: annotation 8"]


def test_a_box_without_a_source_id_is_named_by_its_number(tmp_path):
    dataset = dataset_of(tmp_path, healthy(1))
    box = {"image": [0, 0], "class_id": [0, 0], "x1": [1, 1], "y1": [1, 1], "x2": [9, 9], "y2": [9, 9]}
    image = {name: dataset.column(name) for name in ("key", "path")}
    report = validate(Dataset.from_columns("parts", ["scratch"], image, box), LENIENT)
    assert messages(report, Code.DUPLICATE_BOX) == [
        "good/100.jpg: box 1: equals box 0 in class and place; only one is kept"
    ]


def test_the_same_file_twice_in_one_split_is_a_duplicate(tmp_path):
    files = {"a.jpg": images.jpeg(1), "b.jpg": images.jpeg(1), "c.jpg": images.jpeg(2)}
    report = validate(dataset_of(tmp_path, files, boxes=[("a.jpg", 0, (1, 1, 9, 9))]), LENIENT)
    assert messages(report, Code.DUPLICATE_IMAGE) == [
        "a.jpg: the same file as b.jpg; only the first is kept; their boxes differ: check which are right"
    ]
    assert report.near_groups == ()


def test_the_same_file_in_two_splits_is_a_leak(tmp_path):
    files = {"a.jpg": images.jpeg(1), "b.jpg": images.jpeg(1), "c.jpg": images.jpeg(2)}
    splits = {"a.jpg": "train", "b.jpg": "test", "c.jpg": "val"}
    report = validate(dataset_of(tmp_path, files, splits=splits), LENIENT)
    assert messages(report, Code.LEAK) == ["a.jpg: the same file is in train and test (b.jpg); kept in test only"]
    assert report.counts_by_code() == {Code.LEAK: 1}


def test_an_unlabelled_copy_is_no_leak(tmp_path):
    files = {"a.jpg": images.jpeg(1), "b.jpg": images.jpeg(1)}
    report = validate(dataset_of(tmp_path, files, splits={"a.jpg": "train", "b.jpg": "unlabelled"}), LENIENT)
    assert messages(report, Code.DUPLICATE_IMAGE) == [
        "a.jpg: the same file as b.jpg; one is for inference only, both are kept"
    ]


def test_hashes_from_the_reader_are_used(tmp_path):
    dataset = dataset_of(tmp_path, healthy(2), sha256=["a" * 64, "a" * 64])
    assert Code.DUPLICATE_IMAGE in validate(dataset, LENIENT).counts_by_code()


def resaved(seed: int) -> bytes:
    return images.encode(images.picture(seed), "JPEG", quality=60)


def test_a_recompressed_copy_is_a_near_duplicate_or_a_near_leak(tmp_path):
    files = {"a.jpg": images.jpeg(1), "a2.jpg": resaved(1), "b.jpg": images.jpeg(2), "b2.jpg": resaved(2)}
    splits = {"a.jpg": "train", "a2.jpg": "train", "b.jpg": "train", "b2.jpg": "val"}
    report = validate(dataset_of(tmp_path, files, splits=splits), LENIENT)
    assert messages(report, Code.NEAR_DUPLICATE) == [
        "a.jpg: looks the same as a2.jpg; kept together when splits are cut"
    ]
    assert messages(report, Code.NEAR_LEAK) == [
        "b.jpg: 2 images that look the same are in train (b.jpg) and val (b2.jpg); check them on the card"
    ]
    assert report.near_groups == (("a.jpg", "a2.jpg"), ("b.jpg", "b2.jpg"))


def test_a_fixed_camera_does_not_make_one_large_group(tmp_path):
    files = {f"{quality}.jpg": images.encode(images.picture(1), "JPEG", quality=quality) for quality in range(60, 90)}
    report = validate(dataset_of(tmp_path, files), LENIENT)
    assert report.near_groups == ()
    assert "30 images look alike (a fixed camera?)" in messages(report, Code.NEAR_DUPLICATE)[0]


def test_too_few_images_counts_only_usable_labelled_ones(tmp_path):
    files = {**healthy(2), "broken.jpg": b"", "spare.jpg": images.jpeg(1)}
    dataset = dataset_of(tmp_path, files, splits={"spare.jpg": "unlabelled"})
    report = validate(dataset, ValidationPolicy(min_images=3, min_instances=0))
    assert messages(report, Code.TOO_FEW_IMAGES) == ["parts: 2 usable images, at least 3 are needed; add images"]


def test_a_given_split_without_usable_images_is_empty(tmp_path):
    dataset = dataset_of(tmp_path, {**healthy(1), "v.jpg": b""}, splits={"good/100.jpg": "train", "v.jpg": "val"})
    found = messages(validate(dataset, LENIENT), Code.EMPTY_SPLIT)
    assert found == ["val: no usable image is in val; add images or remove the split"]


def test_a_missing_train_split_is_reported_once(tmp_path):
    dataset = dataset_of(tmp_path, healthy(1), splits={"good/100.jpg": "val"})
    assert [m.split(":")[0] for m in messages(validate(dataset, LENIENT), Code.EMPTY_SPLIT)] == ["train"]
    known = Finding.of(Code.EMPTY_SPLIT, "Steel/train", "has no images; add some")
    reported = Dataset("parts", dataset.images, dataset.layers, findings=(known,))
    assert validate(reported, LENIENT).findings == (known,)


def test_a_class_needs_boxes_in_train_or_overall_without_splits(tmp_path):
    files = healthy(2)
    a, b = files
    boxes = [(a, 0, (1, 1, 9, 9)), (b, 1, (1, 1, 9, 9))]
    policy = ValidationPolicy(min_images=1, min_instances=1)
    assert validate(dataset_of(tmp_path, files, boxes=boxes), policy).findings == ()
    given = dataset_of(tmp_path, files, boxes=boxes, splits={a: "train", b: "val"})
    assert messages(validate(given, policy), Code.TOO_FEW_INSTANCES) == [
        "class pit: 0 boxes in train, at least 1 are needed; label more, or leave the class out with data.categories"
    ]


def test_imbalance_states_its_ratio(tmp_path):
    files = healthy(1)
    boxes = [("good/100.jpg", 0, (n, 1, n + 5, 9)) for n in range(20)] + [("good/100.jpg", 1, (1, 1, 9, 9))]
    found = messages(validate(dataset_of(tmp_path, files, boxes=boxes), LENIENT), Code.CLASS_IMBALANCE)
    assert len(found) == 1
    assert found[0].startswith("class scratch: 20 boxes against 1 of pit in the whole data set, a ratio of 20 to 1; ")


def test_the_policy_overrides_severities_also_of_the_reader(tmp_path):
    files = {"a.jpg": images.jpeg(1), "b.jpg": b""}
    orphan = Finding.of(Code.ORPHAN_IMAGE, "c.jpg", "is not in the labels; add it or remove it")
    plain = dataset_of(tmp_path, files)
    dataset = Dataset("parts", plain.images, plain.layers, findings=(orphan,))
    policy = ValidationPolicy(
        min_images=1,
        min_instances=0,
        severities={Code.EMPTY_FILE: Severity.WARNING, Code.ORPHAN_IMAGE: Severity.ERROR},
    )
    report = validate(dataset, policy)
    assert {f.code: f.severity for f in report.findings} == policy.severities
    with pytest.raises(ValidationStopped, match=r"^c\.jpg: is not in the labels; add it or remove it$"):
        report.raise_if_stopped()


def test_a_stop_is_one_line_with_place_fix_and_the_rest_by_code(zoo):
    _, report = zoo
    with pytest.raises(ValidationStopped) as caught:
        report.raise_if_stopped()
    line = str(caught.value)
    assert line.startswith("truncated.jpg: truncated or damaged (")
    assert "(and 8 more: 3 x unsupported_format, 2 x not_an_image" in line
    assert line.endswith("the validation card shows them all)")
    assert "\n" not in line


def test_warnings_do_not_stop(tmp_path):
    report = validate(dataset_of(tmp_path, {"a.jpg": images.palette_png()}), LENIENT)
    report.raise_if_stopped()
    assert report.errors == ()
    assert report.verdict == "Usable: 2 warnings."


def test_the_summary_is_short(tmp_path):
    boxes = [("good/100.jpg", 0, (-n, 1, 9, 9)) for n in range(1, 40)]
    text = validate(dataset_of(tmp_path, healthy(1), boxes=boxes), LENIENT).summary(places=2)
    assert text.splitlines() == [
        "Usable: 39 warnings.",
        "warning out_of_bounds_box x 39",
        "        good/100.jpg: annotation 1: reaches 1 px over the left edge; clipped to the image",
        "        good/100.jpg: annotation 2: reaches 2 px over the left edge; clipped to the image",
        "        and 37 more",
    ]


def test_a_report_is_the_same_after_saving(zoo, tmp_path):
    _, report = zoo
    report.save(tmp_path / "new" / "folder")
    assert ValidationReport.load(tmp_path / "new" / "folder") == report
    raw = json.loads((tmp_path / "new" / "folder" / "report.json").read_text())
    assert raw["counts_by_code"]["not_an_image"] == 2
    assert (tmp_path / "new" / "folder" / "card.html").read_text() == report.card


@pytest.mark.parametrize("damage", ["absent", "not json", "of another kind"])
def test_a_damaged_report_is_refused_with_its_folder(zoo, tmp_path, damage):
    if damage != "absent":
        zoo[1].save(tmp_path)
        (tmp_path / "report.json").write_text("{" if damage == "not json" else "{}")
    with pytest.raises(DataError, match="not a saved validation report"):
        ValidationReport.load(tmp_path)


def in_shards(dataset: Dataset, policy: ValidationPolicy, shards: int, folder: Path) -> ValidationReport:
    """Inspect each shard without the others, the last one first, and judge all."""
    parts = []
    for shard in reversed(range(shards)):
        target = folder / str(shard)
        target.mkdir()
        inspect_shard(dataset.shard(shard, shards), policy).save(target)
        parts.append(InspectedImages.load(target))
    return validate_inspected(
        dataset.replace_column("path", [""] * dataset.num_images), parts, policy, at_hand(dataset)
    )


def at_hand(dataset: Dataset) -> Callable[[Dataset], Dataset]:
    paths = dict(zip(dataset.column("key"), dataset.column("path"), strict=True))
    return lambda images: images.replace_column("path", [paths[key] for key in images.column("key")])


@pytest.mark.parametrize("shards", [1, 20])
def test_in_shards_the_report_is_the_same(zoo, tmp_path, shards):
    dataset, whole = zoo
    report = in_shards(dataset, LENIENT, shards, tmp_path)
    assert report == whole
    assert report.card == whole.card


def test_an_image_that_no_shard_has_seen_is_named(zoo, tmp_path):
    dataset, _ = zoo
    parts = [inspect_shard(dataset.shard(0, 2), LENIENT)]
    with pytest.raises(DataError, match="is in no shard that was validated; run again with --no-cache"):
        validate_inspected(dataset, parts, LENIENT)
    with pytest.raises(DataError, match="no saved inspections"):
        InspectedImages.load(tmp_path)


def test_progress_counts_up_to_all_images(tmp_path):
    seen: list[int] = []
    validate(dataset_of(tmp_path, healthy(40)), LENIENT, seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 40


def test_an_interruption_does_not_wait_for_the_rest(tmp_path):
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        inspect_images(dataset_of(tmp_path, healthy(40)), 10**8, interrupt)


def test_an_empty_data_set_is_reported_not_a_crash():
    report = validate(Dataset.from_columns("parts", [], {"key": []}, {}), ValidationPolicy())
    assert report.counts_by_code() == {Code.TOO_FEW_IMAGES: 1}


@pytest.mark.real_data
def test_the_leaks_of_the_casting_photos_are_found(real_data, tmp_path):
    root = real_data / "casting"
    paths = sorted(root.rglob("*.jpeg"))
    keys = [path.relative_to(root).as_posix() for path in paths]
    columns = {"key": keys, "path": [str(p) for p in paths], "split": [key.split("/")[0] for key in keys]}
    dataset = hash_images(Dataset.from_columns("casting", [], columns, {}))
    report = validate(dataset, ValidationPolicy())
    assert report.counts_by_code()[Code.LEAK] == 27
    # Found by eye: one part photographed again in both splits. A looser rule pairs different parts of the same kind.
    assert report.counts_by_code()[Code.NEAR_LEAK] == 1
    # Each image is in the shard of its own hash, so that different shards inspect the two of a near pair.
    assert in_shards(dataset, ValidationPolicy(), 7, tmp_path) == report


@pytest.mark.real_data
def test_flat_steel_textures_are_not_taken_for_duplicates(real_data):
    root = real_data / "vision" / "Steel" / "val"
    paths = sorted(root.glob("*.jpg"))
    columns = {"key": [p.name for p in paths], "path": [str(p) for p in paths]}
    report = validate(Dataset.from_columns("steel", [], columns, {}), ValidationPolicy())
    assert report.findings == ()
