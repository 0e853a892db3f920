"""`POST /feedback`: acknowledged feedback is on the disk, and invalid feedback is refused with a code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.bundles import encode, picture
from tests.helpers.disks import mounted
from tests.monitoring.test_log import until
from tests.serving.conftest import TestClient, client_of, settings_of
from tests.serving.test_app import metric
from tests.serving.test_switching import PNG
from visionops.monitoring.kinds import FEEDBACK
from visionops.monitoring.segment_reading import LogSource
from visionops.review.items import item_id

BOX = {"boxes": [{"class_name": "red", "box": [64.0, 32.0, 96.0, 64.0]}]}
WRITTEN = 'visionops_feedback_total{outcome="written"}'
TRICKS = [
    "'; DROP TABLE review_items; --",
    "../../etc/passwd",
    "/etc/passwd",
    "%2e%2e%2f",
    "a\u202eb",
    "{{7*7}}",
    "$(id)",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Path of the prediction log, which does not exist yet."""
    return tmp_path / "log"


@pytest.fixture
def client(bundle: Path, folder: Path) -> Iterator[TestClient]:
    """A server that samples every image."""
    changes = {"prediction_log": folder, "prediction_log_images": 1.0, "max_upload_bytes": 200_000}
    with client_of(settings_of(bundle, **changes)) as client:
        yield client


def kept(folder: Path) -> list[dict[str, object]]:
    """Return all feedback, each with its image as ``image``."""
    source, found = LogSource(folder / "feedback", None, FEEDBACK), []
    for stem in source.stems():
        segment = source.read(stem)
        assert segment is not None
        for row in segment.records.to_pylist():
            image = source.read_file(stem, row["sha256"])
            assert image is not None
            assert hashlib.sha256(image).hexdigest() == row["sha256"]
            found.append(row | {"image": image})
    return found


def code_of(response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def predict(client: TestClient, image: bytes, request_id: str) -> None:
    assert client.post("/predict", content=image, headers=PNG | {"X-Request-ID": request_id}).status_code == 200


def test_feedback_on_a_request_has_its_prediction_and_image(client: TestClient, folder: Path, red_cell: bytes):
    predict(client, red_cell, "part-17")
    answer = client.post("/feedback", json={"request_id": "part-17", "label": BOX, "comment": "too small"})
    assert answer.status_code == 202
    digest = hashlib.sha256(red_cell).hexdigest()
    assert answer.json() == {"item": item_id("cells", digest), "use_case": "cells", "sha256": digest, "known": False}
    (row,) = kept(folder)
    assert (row["request_id"], row["model"], row["version"], row["comment"]) == ("part-17", "cells", "1", "too small")
    assert json.loads(row["answer_json"])["detections"][0]["class_name"] == "red"
    assert json.loads(row["label_json"]) == BOX
    assert row["image"] == red_cell
    assert metric(client, WRITTEN) == 1


def test_an_image_with_a_label_and_a_comment(client: TestClient, folder: Path, red_cell: bytes):
    fields = {"label": json.dumps(BOX), "comment": "from the line"}
    answer = client.post("/feedback", files={"file": ("part.png", red_cell)}, data=fields)
    assert answer.status_code == 202
    (row,) = kept(folder)
    assert (row["request_id"], row["answer_json"], row["name"]) == ("", None, "part.png")
    assert (row["image"], json.loads(row["label_json"])) == (red_cell, BOX)


def test_the_same_feedback_is_kept_once(client: TestClient, folder: Path, red_cell: bytes):
    predict(client, red_cell, "a")
    said = {"request_id": "a", "comment": "bent"}
    assert [client.post("/feedback", json=said).json()["known"] for _ in range(3)] == [False, True, True]
    named = {"Idempotency-Key": "k1"}
    other = said | {"comment": "bent, at the top"}
    assert [client.post("/feedback", json=other, headers=named).json()["known"] for _ in range(2)] == [False, True]
    assert code_of(client.post("/feedback", json=said | {"key": "k1"})) == (409, "key_reused")
    assert len(kept(folder)) == 2


def test_another_process_knows_it_too(bundle: Path, folder: Path, red_cell: bytes):
    changes = {"prediction_log": folder, "prediction_log_images": 1.0}
    with client_of(settings_of(bundle, **changes)) as one, client_of(settings_of(bundle, **changes)) as two:
        for client, known in ((one, False), (two, True), (one, True)):
            answer = client.post("/feedback", files={"file": red_cell}, headers={"Idempotency-Key": "k"})
            assert answer.json()["known"] is known
    with client_of(settings_of(bundle, **changes)) as later:
        answer = later.post("/feedback", files={"file": red_cell}, headers={"Idempotency-Key": "k"})
        assert answer.json()["known"] is True
    assert len(kept(folder)) == 1


def test_what_cannot_be_used_is_refused(client: TestClient, folder: Path, red_cell: bytes):
    predict(client, red_cell, "a")

    def of(**more: object) -> tuple[int, str]:
        return code_of(client.post("/feedback", json={"request_id": "a"} | more))

    assert of(request_id="nobody") == (404, "unknown_request")
    assert of(label={"boxes": [{"class_name": "purple", "box": [1, 2, 3, 4]}]}) == (422, "bad_label")
    assert of(label={"boxes": [{"class_name": "red", "box": [100.0, 2.0, 500.0, 4.0]}]}) == (422, "bad_label")
    assert of(label={"class_name": "red"}) == (422, "bad_label")
    assert of(label=[]) == (422, "bad_feedback")
    assert of(comment="x" * 4001) == (422, "bad_feedback")
    assert of(comment="a\0b") == (422, "bad_feedback")
    assert of(key="a\nb") == (422, "bad_feedback")
    assert of(key="k" * 201) == (422, "bad_feedback")
    assert of(unknown=1) == (422, "bad_feedback")
    assert of(request_id=None) == (422, "bad_feedback")
    assert of(request_id="") == (422, "bad_feedback")
    assert (
        code_of(client.post("/feedback", content=b"{", headers={"Content-Type": "application/json"}))[1] == "bad_json"
    )
    assert code_of(client.post("/feedback", content=red_cell, headers=PNG)) == (415, "unsupported_media_type")
    assert code_of(client.post("/feedback", files={"file": b"no image"}))[0] == 422
    assert code_of(client.post("/feedback", files={"other": red_cell})) == (422, "bad_form")
    both = client.post("/feedback", files={"file": red_cell}, data={"request_id": "a"})
    assert code_of(both) == (422, "bad_feedback")
    bad = client.post("/feedback", files={"file": red_cell}, data={"label": "{"})
    assert code_of(bad) == (422, "bad_json")
    assert kept(folder) == []


def test_a_comment_of_100_mb_is_refused_early(client: TestClient, folder: Path, red_cell: bytes):
    predict(client, red_cell, "a")
    long = "x" * 100_000_000
    assert code_of(client.post("/feedback", json={"request_id": "a", "comment": long})) == (413, "upload_too_large")
    form = client.post("/feedback", files={"file": red_cell}, data={"comment": long})
    assert code_of(form) == (413, "upload_too_large")
    fits = client.post("/feedback", files={"file": red_cell}, data={"comment": "x" * 1_100_000})
    assert code_of(fits) == (413, "upload_too_large")
    assert kept(folder) == []


@pytest.mark.parametrize("trick", TRICKS)
def test_texts_are_kept_as_they_are_and_open_nothing(client: TestClient, folder: Path, red_cell: bytes, trick: str):
    assert code_of(client.post("/feedback", json={"request_id": trick})) == (404, "unknown_request")
    answer = client.post("/feedback", files={"file": (trick, red_cell)}, data={"comment": trick, "key": trick})
    assert answer.status_code == 202
    (row,) = kept(folder)
    assert row["comment"] == trick
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert all(name.startswith("2") or name == row["sha256"] for name in names)
    named = client.post("/feedback", params={"model": trick}, files={"file": red_cell})
    assert code_of(named) == (404, "unknown_model")


def test_an_image_that_was_not_kept_is_to_be_sent(bundle: Path, folder: Path, red_cell: bytes):
    with client_of(settings_of(bundle, prediction_log=folder)) as client:
        predict(client, red_cell, "a")
        assert code_of(client.post("/feedback", json={"request_id": "a"})) == (409, "image_not_kept")
    with client_of(settings_of(bundle)) as client:
        refusal = client.post("/feedback", json={"request_id": "a"})
        assert code_of(refusal) == (404, "no_prediction_log")
        assert "--prediction-log" in refusal.json()["error"]["message"]


def test_a_full_disk_is_said_and_leaves_nothing_half(bundle: Path, tmp_path: Path):
    noise = encode(picture([("red", 1, 1)])) + bytes(300_000)  # trailing bytes make it large
    small = encode(picture([("red", 1, 1)]))
    options = {"prediction_log": tmp_path / "disk" / "log", "max_upload_bytes": 1_000_000}
    with mounted(tmp_path / "disk", "size=256k") as disk, client_of(settings_of(bundle, **options)) as client:
        assert code_of(client.post("/feedback", files={"file": noise})) == (507, "disk_full")
        assert client.post("/feedback", files={"file": small}).status_code == 202
        assert code_of(client.post("/feedback", files={"file": noise})) == (507, "disk_full")
        until(lambda: metric(client, WRITTEN) == 1)
        assert metric(client, 'visionops_feedback_total{outcome="disk_full"}') == 2
        assert [row["image"] for row in kept(disk / "log")] == [small]


def test_a_flood_is_refused_and_not_queued_for_ever(client: TestClient, red_cell: bytes):
    keeper = client.app.state.serving.feedback
    keeper._waiting += 32
    refusal = client.post("/feedback", files={"file": red_cell})
    assert code_of(refusal) == (503, "busy")
    assert refusal.headers["retry-after"] == "1"
    keeper._waiting -= 32
    assert client.post("/feedback", files={"file": red_cell}).status_code == 202


def test_a_damaged_segment_is_named_and_feedback_goes_on_without_it(client: TestClient, folder: Path, red_cell: bytes):
    damaged = folder / "feedback" / "20260302T061409123456Z-4711-9f2c1e5a.parquet"
    damaged.parent.mkdir(parents=True, exist_ok=True)
    damaged.write_bytes(b"no parquet")
    refusal = client.post("/feedback", files={"file": red_cell})
    assert code_of(refusal) == (503, "feedback_unwritable")
    assert f"{damaged}: cannot be read" in refusal.json()["error"]["message"]
    assert metric(client, 'visionops_feedback_total{outcome="unwritable"}') == 1
    damaged.unlink()
    assert client.post("/feedback", files={"file": red_cell}).status_code == 202
