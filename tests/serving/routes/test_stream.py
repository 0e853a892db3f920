"""`/stream` of a real server process, by the WebSocket client that people use."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from deploy.http.keys import Client, KeyRole, make_key
from deploy.serving.models.service import PredictionService
from tests.helpers.bundles import encode, make_bundle, picture
from tests.helpers.programs import get, until
from tests.serving.conftest import KEY, TestClient
from tests.serving.test_main import lines_of, server
from visionops.monitoring.log_reading import read_log

PATIENCE = 60
"""Timeout in seconds, never reached if the test passes."""
RED = encode(picture([("red", 2, 1)]))
SLOW = encode(picture([("red", 2, 1)], width=5000, height=4000))
"""Takes some hundred milliseconds to decode, and a few to send."""
RED_BOX = [64.0, 32.0, 96.0, 64.0]


@contextlib.contextmanager
def opened(port: int, query: str = "", **options: Any) -> Iterator[ClientConnection]:
    address = f"ws://127.0.0.1:{port}/stream{query}"
    with connect(address, open_timeout=PATIENCE, compression=None, max_size=None, **options) as stream:
        yield stream


def answer(stream: ClientConnection) -> dict[str, Any]:
    return dict(json.loads(stream.recv(timeout=PATIENCE)))


def answer_to(stream: ClientConnection, frame: bytes) -> dict[str, Any]:
    stream.send(frame)
    return answer(stream)


def repeat(action: Callable[[], object], pause: float = 0.0) -> None:
    """Repeat a call until it raises."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        action()
        time.sleep(pause)


def metric(port: int, series: str) -> float:
    lines = get(port, "/metrics")[1].decode().splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == series), 0.0)


def predict(port: int, image: bytes, headers: dict[str, str] | None = None, path: str = "/predict") -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("POST", path, image, {"Content-Type": "image/png"} | (headers or {}))
        response = connection.getresponse()
        return response.status, {"headers": dict(response.headers)} | json.loads(response.read())


@pytest.fixture(scope="module")
def port(bundle: Path) -> Iterator[int]:
    """Port of a server with one worker and without keys."""
    limits = ("--workers", "1", "--streams", "1", "--max-stream-connections", "3", "--max-upload-bytes", "200000")
    with server("--bundle", str(bundle), "--name", "cells", "--version", "1", *limits) as (_, port, _log):
        yield port


# Answers


def test_a_frame_is_answered_as_predict_answers_it(port: int):
    with opened(port, "?conf=0.4") as stream:
        first, second = answer_to(stream, RED), answer_to(stream, RED)
    status, same = predict(port, RED)
    assert status == 200
    assert [first["frame"], second["frame"]] == [1, 2]
    assert first["dropped"] == second["dropped"] == 0
    assert first["request_id"].endswith("/1")
    assert set(first) == {"frame", "dropped", "request_id"} | set(same) - {"headers"}
    for part in ("model", "image", "detections"):
        assert first[part] == second[part] == same[part]
    assert first["detections"][0]["box"] == RED_BOX


def test_a_newer_frame_replaces_the_one_that_waits_and_drops_are_counted(port: int):
    before = {
        each: metric(port, f'visionops_stream_frames_total{{outcome="{each}"}}') for each in ("answered", "dropped")
    }
    answers: list[dict[str, Any]] = []
    with opened(port) as stream:
        for _ in range(30):
            stream.send(SLOW)
        while not answers or answers[-1]["frame"] < 30:
            answers.append(answer(stream))
    numbers = [each["frame"] for each in answers]
    assert numbers == sorted(set(numbers))
    assert numbers[0] < 30, "the first was not held back for newer ones"
    assert answers[-1]["dropped"] == 30 - len(answers) > 0
    for each, count in (("answered", len(answers)), ("dropped", 30 - len(answers))):
        assert metric(port, f'visionops_stream_frames_total{{outcome="{each}"}}') - before[each] == count


def test_a_bad_frame_between_good_ones_is_refused_alone(port: int):
    with opened(port) as stream:
        good, bad, cut, again = (answer_to(stream, frame) for frame in (RED, b"no image", RED[:-30], RED))
    assert good["detections"] == again["detections"]
    assert bad["error"]["code"] == "not_an_image"
    assert bad["error"]["message"].startswith("frame 2: ")
    assert cut["error"]["code"] == "truncated"
    assert [each["frame"] for each in (good, bad, cut, again)] == [1, 2, 3, 4]


def test_two_clients_share_fairly(port: int):
    answers = [0, 0]
    with opened(port) as one, opened(port) as two:
        for stream in (one, two):
            for _ in range(3):
                stream.send(SLOW)
        while sum(answers) < 12:
            for index, stream in enumerate((one, two)):
                with contextlib.suppress(TimeoutError):
                    stream.recv(timeout=0.05)
                    answers[index] += 1
                    stream.send(SLOW)
                    stream.send(SLOW)
    assert min(answers) >= 4


def test_frames_have_deadlines(port: int):
    with opened(port) as stream:
        answer_to(stream, SLOW)
    before = metric(port, 'visionops_rejected_total{reason="deadline"}')
    with opened(port, additional_headers={"X-Deadline-Ms": "2"}) as stream:
        refused = answer_to(stream, SLOW)
    with opened(port, additional_headers={"X-Deadline-Ms": "3600000"}) as stream:
        assert answer_to(stream, RED)["detections"]
    assert refused["error"]["code"] == "deadline"
    assert metric(port, 'visionops_rejected_total{reason="deadline"}') == before + 1


# Handshakes


@pytest.mark.parametrize(
    ("address", "headers", "status", "code"),
    [
        ("/stream?model=none", {}, 404, "unknown_model"),
        ("/stream?conf=7", {}, 422, "bad_parameter"),
        ("/stream?confidence=0.4", {}, 422, "bad_parameter"),
        ("/stream", {"X-Deadline-Ms": "0"}, 422, "bad_parameter"),
        ("/stream", {"X-Deadline-Ms": "soon"}, 422, "bad_parameter"),
        ("/stream", {"Origin": "http://evil.example"}, 403, "foreign_origin"),
        ("/predict", {}, 405, "method_not_allowed"),
        ("/none", {}, 404, "not_found"),
    ],
)
def test_a_handshake_is_refused_with_the_reason(
    port: int, address: str, headers: dict[str, str], status: int, code: str
):
    with pytest.raises(InvalidStatus) as caught:
        connect(f"ws://127.0.0.1:{port}{address}", additional_headers=headers, open_timeout=PATIENCE)
    response = caught.value.response
    assert response.status_code == status
    assert json.loads(response.body)["error"]["code"] == code
    assert response.headers["X-Request-ID"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_streams_are_bounded_and_give_their_place_back(port: int):
    with opened(port), opened(port), opened(port):
        assert metric(port, "visionops_streams_open") == 3
        with pytest.raises(InvalidStatus) as caught, opened(port):
            pass
        assert caught.value.response.status_code == 503
        assert caught.value.response.headers["Retry-After"] == "1"
        assert json.loads(caught.value.response.body)["error"]["code"] == "too_many_streams"
    until(lambda: metric(port, "visionops_streams_open") == 0)
    with opened(port) as stream:
        assert answer_to(stream, RED)["frame"] == 1


def test_requests_that_are_not_websockets_are_refused(port: int):
    status, body = get(port, "/stream")
    assert (status, json.loads(body)["error"]["code"]) == (426, "upgrade_required")
    # Another method than GET opens none. Its body, which comes after the upgrade, is no image or no request.
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "x"}
    status, refused = predict(port, RED, upgrade)
    assert (status, refused["error"]["code"]) in {(422, "empty_file"), (400, "bad_http")}
    # A GET that is none of the protocol.
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(
            b"GET /stream HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 4")


# Closing


def closed(stream: ClientConnection) -> tuple[int, str]:
    """Return code and reason of the server's close."""
    with pytest.raises(ConnectionClosed) as caught:
        repeat(lambda: stream.recv(timeout=PATIENCE))
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


def test_what_breaks_the_protocol_closes_the_connection(port: int):
    with opened(port) as stream:
        stream.send("text")
        assert closed(stream) == (1003, "a text message; send images as binary messages")
    with opened(port) as stream:
        assert answer_to(stream, RED)["frame"] == 1
        stream.send(bytes(200_001))
        assert closed(stream) == (1009, "the frame exceeds 200000 bytes; send less or raise max_upload_bytes")


def test_far_too_large_a_frame_is_cut_off_while_it_arrives(port: int):
    with opened(port) as stream:
        with contextlib.suppress(ConnectionClosed):
            stream.send(bytes(5_000_000))
        with pytest.raises(ConnectionClosed):
            stream.recv(timeout=PATIENCE)
    with opened(port) as stream:
        assert answer_to(stream, RED)["frame"] == 1


def test_a_stream_without_frames_is_closed(bundle: Path):
    limits = ("--stream-idle-timeout", "0.5", "--streams", "1")
    with server("--bundle", str(bundle), *limits) as (_, port, log), opened(port) as stream:
        assert answer_to(stream, RED)["frame"] == 1
        assert closed(stream) == (1001, "no frame within 0.5 s")
        until(lambda: any(line["event"] == "stream" for line in lines_of(log)))
        line = next(line for line in lines_of(log) if line["event"] == "stream")
        assert (line["frames"], line["answered"], line["dropped"], line["close_code"]) == (1, 1, 0, 1001)


def test_a_client_that_does_not_read_is_cut_off(tmp_path: Path):
    many = make_bundle(tmp_path / "bundle", size=640).folder
    frame = encode(picture([("red", column, row) for column in range(20) for row in range(20)], width=640, height=640))
    limits = ("--idle-timeout", "1", "--streams", "1")
    with server("--bundle", str(many), *limits) as (_, port, log):
        with socket.socket() as narrow:
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            narrow.connect(("127.0.0.1", port))
            # Takes no message of the server beyond the first few out of its socket.
            with (
                opened(port, sock=narrow, max_queue=1, close_timeout=1) as stream,
                pytest.raises(ConnectionClosed),
            ):
                repeat(lambda: stream.send(frame), pause=0.001)
        until(lambda: any(line["event"] == "stream" for line in lines_of(log)))
        line = next(line for line in lines_of(log) if line["event"] == "stream")
        # Pings alone end such a connection after 40 s, and then hold what was not sent.
        assert line["duration_s"] < 40
        assert metric(port, "visionops_streams_open") == 0


def test_on_sigterm_streams_are_closed_as_for_a_restart(bundle: Path):
    with server("--bundle", str(bundle), "--streams", "1") as (process, port, log), opened(port) as stream:
        assert answer_to(stream, RED)["frame"] == 1
        process.send_signal(signal.SIGTERM)
        assert closed(stream)[0] == 1012
        assert process.wait(60) == -signal.SIGTERM
        assert [line["close_code"] for line in lines_of(log) if line["event"] == "stream"] == [1012]
        assert log.with_name("errors").read_text() == ""


# Models and keys


def test_a_model_is_switched_between_two_frames(bundle: Path, other_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VISIONOPS_ADMIN_KEY", KEY)
    arguments = ("--bundle", str(bundle), "--name", "cells", "--version", "1", "--streams", "1")
    with server(*arguments) as (_, port, _log), opened(port) as stream:
        assert answer_to(stream, RED)["model"]["version"] == "1"
        order = json.dumps({"bundle": str(other_bundle), "name": "cells", "version": "2"}).encode()
        json_with_key = {"X-API-Key": KEY, "Content-Type": "application/json"}
        assert predict(port, order, json_with_key, "/reload")[0] == 200
        after = answer_to(stream, RED)
        assert (after["model"]["version"], after["frame"]) == ("2", 2)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("POST", "/unload", b'{"name": "cells"}', json_with_key)
            assert connection.getresponse().status == 200
        assert answer_to(stream, RED)["error"]["code"] == "no_model"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def test_a_stream_needs_a_key_as_long_as_it_lives(bundle: Path, key_file: Path):
    (key, line), (wrong_role, other_line) = (make_key(Client(r, r)) for r in (KeyRole.PREDICT, KeyRole.FEEDBACK))
    key_file.write_text(f"{line}\n{other_line}\n")
    with server("--bundle", str(bundle), "--streams", "1", "--keys", str(key_file)) as (_, port, log):
        for headers, status, code in (
            ({}, 401, "wrong_key"),
            ({"Authorization": "Bearer x"}, 401, "wrong_key"),
            ({"X-API-Key": key + "x"}, 401, "wrong_key"),
            ({"X-API-Key": wrong_role}, 403, "wrong_role"),
        ):
            with pytest.raises(InvalidStatus) as caught, opened(port, additional_headers=headers):
                pass
            assert caught.value.response.status_code == status
            assert json.loads(caught.value.response.body)["error"]["code"] == code
        with (
            opened(port, additional_headers={"X-API-Key": key}) as one,
            opened(port, additional_headers={"Authorization": f"Bearer {key}"}) as two,
        ):
            for stream in (one, two):
                assert answer_to(stream, RED)["frame"] == 1
            key_file.write_text(f"{other_line}\n")
            with pytest.raises(ConnectionClosed) as closing:
                repeat(lambda: answer_to(one, RED), pause=0.05)
            assert closing.value.rcvd is not None
            assert closing.value.rcvd.code == 1008
            assert closing.value.rcvd.reason.startswith("wrong_key: ")
        until(lambda: sum(line["event"] == "stream" for line in lines_of(log)) == 2)
        assert {line["key"] for line in lines_of(log) if line["event"] == "stream"} == {"predict"}
        statuses = [
            line["status"] for line in lines_of(log) if line["event"] == "request" and line["route"] == "/stream"
        ]
        assert statuses == [401, 401, 401, 403, 101, 101]


def test_a_rate_counts_the_handshake_and_each_frame_in_work(bundle: Path):
    with server("--bundle", str(bundle), "--streams", "1", "--rate", "3/hour") as (_, port, _log):
        with opened(port) as stream:
            assert answer_to(stream, RED)["frame"] == 1
            assert answer_to(stream, RED)["frame"] == 2
            refused = answer_to(stream, RED)
            assert refused["error"]["code"] == "rate_limited"
            assert refused["retry_after"] > 0
            assert refused["frame"] == 3
        assert predict(port, RED)[0] == 429


def test_frames_are_remembered_as_predictions_are(bundle: Path, tmp_path: Path):
    log = tmp_path / "predictions"
    arguments = ("--bundle", str(bundle), "--streams", "1", "--prediction-log", str(log))
    with server(*arguments) as (process, port, _log):
        with opened(port, additional_headers={"X-Source": "camera-3", "X-Request-ID": "shift-1"}) as stream:
            for _ in range(3):
                assert answer_to(stream, RED)["detections"]
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    rows = read_log(log).to_pylist()
    assert [row["request_id"] for row in rows] == ["shift-1/1", "shift-1/2", "shift-1/3"]
    assert {row["source"] for row in rows} == {"camera-3"}


def test_an_unexpected_error_closes_the_stream_and_is_logged(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(PredictionService, "_keep", fail)
    with client.websocket_connect("ws://127.0.0.1/stream") as stream:
        stream.send_bytes(RED)
        closing = stream.receive()
    assert (closing["type"], closing["code"], closing["reason"]) == ("websocket.close", 1011, "internal_error")
    assert "nobody foresaw this" in caplog.text
    assert "visionops_streams_open 0.0" in client.get("/metrics").text
    assert "visionops_in_flight 1.0" in client.get("/metrics").text, "this request alone"
