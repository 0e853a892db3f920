from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from tests.helpers.bundles import CLASSES, encode, make_bundle, picture
from visionops.data.dataset import Dataset
from visionops.errors import BundleError, DataError
from visionops.inference.bundle import ModelBundle
from visionops.inference.predictor import Predictor
from visionops.monitoring.drift.detection import detect_drift
from visionops.monitoring.drift.report import Verdict
from visionops.monitoring.features import image_features
from visionops.monitoring.record import RECORD
from visionops.monitoring.reference import REFERENCE_FILE, add_reference, read_reference, window_reference
from visionops.monitoring.settings import DriftSettings

SCENES = [[("red", 0, 0), ("green", 2, 2)], [], [("blue", 1, 1)], [("red", 3, 3)]]
SPLITS = ["val", "val", "train", "val"]


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "bundle")


@pytest.fixture
def dataset(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(len(SCENES))]
    for path, cells in zip(paths, SCENES, strict=True):
        path.write_bytes(encode(picture(cells)))
    images = {"key": [p.name for p in paths], "path": [str(p) for p in paths], "split": SPLITS}
    return Dataset.from_columns("cells", CLASSES, images, {})


def test_it_is_what_the_bundle_itself_says_of_the_val_split(bundle, dataset):
    done = []
    with_reference = add_reference(bundle, dataset, done.append)
    rows = read_reference(with_reference).to_pylist()
    assert done == [1, 2, 3]
    assert [sorted(row["labels"]) for row in rows] == [["green", "red"], [], ["red"]]
    assert rows[0]["feature_brightness"] == pytest.approx(image_features(picture(SCENES[0]))["brightness"])
    assert rows[0]["time"] is None


def test_it_is_part_of_what_the_bundle_is(bundle, dataset, tmp_path):
    with_reference = add_reference(bundle, dataset)
    assert with_reference.digest != bundle.digest
    again = ModelBundle.load(bundle.folder)
    assert again.digest == with_reference.digest
    assert Predictor(again).predict(picture(SCENES[0])).labels()
    assert add_reference(again, dataset).digest == again.digest
    twin = add_reference(make_bundle(tmp_path / "twin"), dataset)
    assert twin.digest == again.digest
    (bundle.folder / REFERENCE_FILE).write_bytes(b"another")
    with pytest.raises(BundleError, match=r"reference\.parquet: sha256 differs"):
        ModelBundle.load(bundle.folder)


def test_without_val_images_or_reference_it_is_said(bundle, dataset):
    train = Dataset.from_columns("cells", CLASSES, {"key": ["a"], "path": ["a"], "split": ["train"]}, {})
    assert add_reference(bundle, train) is bundle
    with pytest.raises(BundleError, match=r"has no reference\.parquet to compare with; train again"):
        read_reference(bundle)


def test_an_image_that_is_gone_is_named(bundle, dataset, tmp_path):
    (tmp_path / "1.png").unlink()
    with pytest.raises(DataError, match=r"1\.png: cannot be read"):
        add_reference(bundle, dataset)
    assert ModelBundle.load(bundle.folder).digest == bundle.digest


BEGIN = datetime(2026, 3, 9, 6, tzinfo=UTC)


def log(*records):
    """Return records of (hours after `BEGIN`, version, brightness)."""
    rows = [
        {"time": BEGIN + timedelta(hours=hours), "version": version, "feature_brightness": brightness, "count": 0}
        for hours, version, brightness in records
    ]
    return pa.Table.from_pylist(rows, schema=RECORD)


def test_a_sliding_reference_is_the_traffic_of_the_same_version_before_the_window():
    table = log((-169, "3", 0), (-168, "3", 1), (-100, "2", 2), (-1e-6, "3", 3), (0, "3", 4), (5, "3", 5))
    reference = window_reference(table, BEGIN, 168, "3")
    assert reference["feature_brightness"].to_pylist() == [1, 3]
    assert reference.schema == RECORD
    assert window_reference(table, BEGIN, 0.5, "3")["feature_brightness"].to_pylist() == [3]


def test_against_a_sliding_reference_a_sudden_change_shows():
    hours = range(-48, 24)
    table = log(*((hour, "3", 0.5 + (hour >= 0) / 4 + minute / 400) for hour in hours for minute in range(4)))
    reference = window_reference(table, BEGIN, 48, "3")
    assert reference.num_rows == 192
    assert "brightness rose" in detect_drift(reference, table.slice(192), DriftSettings()).explain()


def test_without_earlier_traffic_a_sliding_reference_says_nothing():
    table = log(*((hour, "4", 0.5) for hour in range(40)))
    reference = window_reference(table, BEGIN, 168, "4")
    assert reference.num_rows == 0
    assert reference.schema == RECORD
    report = detect_drift(reference, table, DriftSettings())
    assert {column.verdict for column in report.columns} == {Verdict.TOO_FEW}
    assert not report.drifted
