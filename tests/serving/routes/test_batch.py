"""`/predict/batch`: several images in one request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.helpers.bundles import encode, make_label_bundle, picture
from tests.serving.conftest import TestClient, client_of, settings_of
from tests.serving.test_app import error_of, metric, send


@pytest.fixture
def client(bundle: Path) -> Iterator[TestClient]:
    """A server with small limits, and a queue shorter than a batch."""
    settings = settings_of(
        bundle, max_upload_bytes=10_000, max_batch_files=20, max_batch_bytes=100_000, workers=2, queue=0
    )
    with client_of(settings) as client:
        yield client


def send_all(client: TestClient, images: Sequence[bytes], field: str = "files", **query: object):
    return client.post("/predict/batch", files=[(field, ("part.png", image)) for image in images], params=query)


def with_cells(count: int) -> bytes:
    return encode(picture([("green", n % 4, n // 4) for n in range(count)]))


def without_timing(answer: dict) -> dict:
    assert answer["timing_ms"].pop("total") > 0
    del answer["timing_ms"]
    return answer


@pytest.mark.parametrize("field", ["files", "file"])
def test_answers_come_in_the_order_sent_each_as_predict_has_it(client: TestClient, field: str):
    images = [with_cells(n % 5) for n in range(20)]
    response = send_all(client, images, field)
    assert response.status_code == 200, response.text
    answers = [without_timing(answer) for answer in response.json()["results"]]
    assert answers == [without_timing(send(client, image).json()) for image in images]
    assert [len(answer["detections"]) for answer in answers] == [n % 5 for n in range(20)]
    assert metric(client, 'visionops_predictions_total{class="green",model="cells"}') == 2 * sum(
        n % 5 for n in range(20)
    )


def test_bad_images_fail_alone(client: TestClient):
    good = with_cells(1)
    response = send_all(client, [good, b"no image", good, b"", good[:-30], b"0" * 10_001, good])
    assert response.status_code == 200
    results = response.json()["results"]
    codes = [result.get("error", {}).get("code", "") for result in results]
    assert codes == ["", "not_an_image", "", "empty_file", "truncated", "upload_too_large", ""]
    assert results[1]["error"]["message"].startswith("image 2: ")
    assert all(len(result["detections"]) == 1 for result in results if "error" not in result)
    assert metric(client, 'visionops_rejected_total{reason="truncated"}') == 1


def test_options_hold_for_all_images(client: TestClient, tmp_path: Path):
    faint = picture()
    faint[:32, :32, 0] = 140
    for conf, found in ((0.05, 1), (0.5, 0)):
        results = send_all(client, [encode(faint)] * 2, conf=conf).json()["results"]
        assert [len(result["detections"]) for result in results] == [found, found]
    assert error_of(send_all(client, [encode(faint)], conf=2)) == "bad_parameter"
    with client_of(settings_of(make_label_bundle(tmp_path / "labels").folder)) as labels:
        assert labels.post("/predict/batch", files=[("files", encode(faint))] * 2).status_code == 200
        refused = send_all(labels, [encode(faint)] * 2, conf=0.5)
        assert refused.status_code == 422
        assert "conf" in refused.json()["error"]["message"]


def test_an_invalid_batch_is_refused_as_a_whole(client: TestClient, bundle: Path):
    good = with_cells(1)
    too_many = send_all(client, [good] * 21)
    assert (too_many.status_code, error_of(too_many)) == (422, "bad_form")
    assert "20" in too_many.json()["error"]["message"]
    too_large = send_all(client, [b"0" * 9_000] * 20)
    assert (too_large.status_code, error_of(too_large)) == (413, "upload_too_large")
    assert "exceeds 100000 bytes; send less or raise max_batch_bytes" in too_large.json()["error"]["message"]
    for form in ({"files": {"image": good}}, {"files": {"files": (None, "text")}}):
        none = client.post("/predict/batch", **form)
        assert (none.status_code, error_of(none)) == (422, "missing_file")
    raw = client.post("/predict/batch", content=good, headers={"Content-Type": "image/png"})
    assert (raw.status_code, error_of(raw)) == (415, "unsupported_media_type")
    other = send_all(client, [good], model="other")
    assert (other.status_code, error_of(other)) == (404, "unknown_model")
    assert metric(client, 'visionops_rejected_total{reason="bad_form"}') == 1
