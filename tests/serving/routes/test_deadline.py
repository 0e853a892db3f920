"""`X-Deadline-Ms` over HTTP, on a real server process of one worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.helpers.programs import until
from tests.serving.routes.test_stream import RED, SLOW, metric, predict
from tests.serving.test_main import server


@pytest.fixture(scope="module")
def port(bundle: Path) -> Iterator[int]:
    with server("--bundle", str(bundle), "--name", "cells", "--workers", "1", "--streams", "1") as (_, port, _log):
        yield port


def test_who_is_in_a_hurry_goes_before_those_who_wait(port: int):
    order: list[str] = []

    def ask(name: str, image: bytes, headers: dict[str, str]) -> int:
        status, _ = predict(port, image, headers)
        order.append(name)
        return status

    with ThreadPoolExecutor(22) as pool:
        patient = [pool.submit(ask, "patient", SLOW, {}) for _ in range(20)]
        until(lambda: metric(port, "visionops_queue_depth") >= 17, tick=0.005)
        hurried = pool.submit(ask, "hurried", RED, {"X-Deadline-Ms": "8000"})
        assert hurried.result() == 200
        assert [each.result() for each in patient] == [200] * 20
    # Some were done while it was on its way, fewer than on a queue without deadlines.
    assert order.index("hurried") <= 15


def test_a_deadline_holds_on_every_route_that_predicts(port: int):
    assert predict(port, SLOW)[0] == 200
    hurry = {"X-Deadline-Ms": "2"}
    status, refused = predict(port, SLOW, hurry)
    assert (status, refused["error"]["code"]) == (503, "deadline")
    assert "Retry-After" not in refused["headers"]
    status, done = predict(port, SLOW, {"X-Deadline-Ms": "60000"})
    assert (status, done["image"]["width"]) == (200, 5000)
    form = b"\r\n".join(
        [b"--x", b'Content-Disposition: form-data; name="files"; filename="a"', b"", SLOW, b"--x--", b""]
    )
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    assert predict(port, form, kind, "/predict/batch")[0] == 200
    assert predict(port, form, kind | hurry, "/predict/batch")[1]["error"]["code"] == "deadline"
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": [2, 2, 3], "data": [255, 0, 0] * 4}
    body = json.dumps({"inputs": [tensor]}).encode()
    assert predict(port, body, {"X-Deadline-Ms": "60000"}, "/v2/models/cells/infer")[0] == 200
    status, refused = predict(port, body, {"X-Deadline-Ms": "1"}, "/v2/models/cells/infer")
    assert status == 503
    assert "the deadline" in refused["error"]
    assert predict(port, RED, hurry, "/explain")[1]["error"]["code"] == "bad_parameter"


@pytest.mark.parametrize("sent", ["0", "-5", "soon", "3600001", "1e3", ""])
def test_a_deadline_is_a_number_of_milliseconds(port: int, sent: str):
    status, refused = predict(port, RED, {"X-Deadline-Ms": sent})
    assert (status, refused["error"]["code"]) == (422, "bad_parameter")
    assert refused["error"]["message"].startswith("header.X-Deadline-Ms: ")


def test_missed_deadlines_are_counted_by_when_it_was_clear(bundle: Path):
    with server("--bundle", str(bundle), "--workers", "1", "--streams", "1") as (_, port, _log):
        took = [predict(port, SLOW)[1]["timing_ms"]["total"] for _ in range(3)]
        status, refused = predict(port, SLOW, {"X-Deadline-Ms": str(round(min(took) / 3))})
        assert (status, refused["error"]["code"]) == (503, "deadline")
        assert "the answer would take about" in refused["error"]["message"]
        assert metric(port, 'visionops_deadlines_missed_total{reason="refused"}') == 1
        assert metric(port, 'visionops_requests_total{route="/predict",status="503"}') == 1
