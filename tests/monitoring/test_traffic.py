"""Traffic read by monitoring: the window, drills, and the earlier traffic of sources."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.bundles import CLASSES, encode, make_bundle, picture
from visionops.data.dataset import Dataset
from visionops.monitoring.drift.detection import detect_drift
from visionops.monitoring.drift.report import Baseline
from visionops.monitoring.drill_ids import drill_ids, drill_rows
from visionops.monitoring.log import PredictionLog
from visionops.monitoring.record import RECORD
from visionops.monitoring.reference import add_reference
from visionops.monitoring.settings import MonitoringConfig, ReferenceKind
from visionops.monitoring.traffic import LogPlace, read_traffic

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    paths = [folder / f"{n}.png" for n in range(3)]
    for n, path in enumerate(paths):
        path.write_bytes(encode(picture([(CLASSES[n], n, 1)])))
    images = {"key": [path.name for path in paths], "path": list(map(str, paths)), "split": ["val"] * 3}
    return add_reference(make_bundle(folder / "bundle"), Dataset.from_columns("cells", CLASSES, images, {}))


@pytest.fixture
def place(tmp_path):
    log = PredictionLog(tmp_path / "log")
    rng = np.random.default_rng(0)

    def add(hours, request_id, source=None):
        record = {"time": NOW - timedelta(hours=hours), "request_id": request_id, "model": "cells", "version": "1"}
        record |= {"embedding": [], "count": 0, "feature_brightness": float(rng.random()), "source": source}
        assert log.append(record)

    for n in range(40):
        add(1 + n / 10, f"part-{n}", "cam-1")
        add(30 + n, f"old-{n}", "cam-1")
    for n in range(5):
        add(2, f"{drill_ids('0123abcd')}-{n}")
        add(40, f"{drill_ids('0123abcd')}-{n}")
    log.close()
    return LogPlace(tmp_path / "log", None, "cells", "1")


def test_a_drill_counts_unless_it_is_ignored(bundle, place):
    by_default = read_traffic(bundle, place, MonitoringConfig(), NOW)
    assert (len(by_default.window), by_default.drills) == (45, 0)
    ignoring = read_traffic(bundle, place, MonitoringConfig(ignore_drills=True), NOW)
    assert (len(ignoring.window), ignoring.drills) == (40, 5)
    slides = MonitoringConfig(reference=ReferenceKind.WINDOW)
    assert len(read_traffic(bundle, place, slides, NOW).reference) == 45
    without = read_traffic(bundle, place, slides.model_copy(update={"ignore_drills": True}), NOW)
    assert (len(without.reference), without.history) == (40, None)


def test_the_records_of_a_time_come_with_drills_or_without(place):
    since = NOW - timedelta(hours=24)
    assert len(place.read(since)) == 45
    without = place.read(since, ignore_drills=True)
    assert len(without) == 40
    assert {name.partition("-")[0] for name in without["request_id"].to_pylist()} == {"part"}
    assert len(place.read(since, NOW - timedelta(hours=1.95), ignore_drills=True)) < 40


def test_the_own_history_of_a_source_is_read_where_the_reference_does_not_know_it(bundle, place):
    config = MonitoringConfig()
    traffic = read_traffic(bundle, place, config, NOW)
    assert traffic.history is not None
    assert len(traffic.history) == 40  # never of drills, whatever the setting
    report = detect_drift(traffic.reference, traffic.window, config.drift, traffic.history)
    (source,) = report.sources
    assert (source.name, source.reference_images, source.against) == ("cam-1", 40, Baseline.HISTORY)
    few = config.model_copy(update={"reference_hours": 12.0})
    assert len(read_traffic(bundle, place, few, NOW).history) < 40


@given(st.lists(st.text(max_size=24) | st.none() | st.from_regex(r"drill-[0-9a-f]{8}-\d{1,3}", fullmatch=True)))
def test_a_drill_is_known_by_its_ids_alone(ids):
    table = pa.Table.from_pylist([{"request_id": name} for name in ids], schema=RECORD)
    found = drill_rows(table).to_pylist()
    assert len(found) == len(ids)
    for name, is_drill in zip(ids, found, strict=True):
        if is_drill:
            assert name.startswith("drill-")
            assert name.rpartition("-")[2].rstrip("\n").isdecimal()
