from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from tests.helpers.bundles import make_bundle, make_label_bundle, picture
from visionops.inference.predictor import Predictor
from visionops.monitoring.features import describe_image
from visionops.monitoring.record import RECORD, record_of

REST = {"request_id": "a", "model": "m", "version": "1", "digest": "d", "latency_ms": 1.5}


def record(bundle, image):
    seen = []
    prediction = Predictor(bundle).predict(image, watch=lambda *found: seen.append(found))
    ((rgb, recorded),) = seen
    assert np.array_equal(rgb, image)
    assert recorded is prediction  # the predictor uses the thresholds of the card
    return record_of(recorded, *describe_image(rgb)), prediction


def table(*records):
    return pa.Table.from_pylist([{**REST, "time": datetime.now(UTC), **row} for row in records], schema=RECORD)


def test_boxes_are_recorded_as_shares_of_the_image(tmp_path):
    row, prediction = record(make_bundle(tmp_path / "bundle"), picture([("red", 2, 1)]))
    assert (row["count"], row["labels"]) == (1, ["red"])
    x1, y1, x2, y2 = prediction.boxes[0] / 128
    assert row["areas"] == pytest.approx([(x2 - x1) * (y2 - y1)])
    assert row["centres_x"] == pytest.approx([(x1 + x2) / 2])
    assert row["centres_y"] == pytest.approx([(y1 + y2) / 2])
    assert row["probabilities"] == []
    assert len(row["embedding"]) == 64


def test_an_image_without_boxes_is_a_row_of_empty_lists(tmp_path):
    row, _ = record(make_bundle(tmp_path / "bundle"), picture())
    assert (row["count"], row["labels"], row["areas"], row["confidences"]) == (0, [], [], [])


def test_labels_have_their_probabilities(tmp_path):
    row, prediction = record(make_label_bundle(tmp_path / "bundle"), picture([("red", 2, 1)]))
    assert row["count"] == len(prediction.answers)
    assert row["labels"] == [name for name, _ in prediction.labels()]
    assert sum(row["probabilities"]) == pytest.approx(len(prediction.answers), abs=1e-4)
    assert row["areas"] == []
    if prediction.embedding.size:
        assert row["embedding"] == pytest.approx(prediction.embedding.tolist(), abs=1e-5)


def test_records_fit_the_schema_and_come_back(tmp_path):
    rows = [record(make_bundle(tmp_path / "a"), image)[0] for image in (picture(), picture([("red", 2, 1)]))]
    back = table(*rows).to_pylist()
    assert [row["labels"] for row in back] == [[], ["red"]]
    assert set(back[0]) == set(RECORD.names)
