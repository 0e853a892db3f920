"""Send changed images through a real server, and into its log."""

from __future__ import annotations

import hashlib
import http.server
import json
import socket
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import uvicorn
from pydantic import SecretStr

from deploy.serving.app import create_app
from deploy.serving.models.models import Loader
from deploy.serving.models.startup import start_models
from deploy.serving.settings import Settings
from tests.helpers.bundles import CLASSES, encode, make_bundle, picture
from tests.helpers.programs import free_port
from visionops.data.dataset import Dataset
from visionops.endpoint import Endpoint
from visionops.errors import ConfigError, DataError, DeploymentError
from visionops.inference.image import decode_image
from visionops.monitoring import drill as drilling
from visionops.monitoring.drill import Drill, render_drill_html, run_drill
from visionops.monitoring.log_reading import read_log
from visionops.monitoring.simulate import Kind

KEY = "k3y"
KEY_LINE = f"tests predict sha256:{hashlib.sha256(KEY.encode()).hexdigest()}"
WHITE = np.full((128, 128, 3), 255, np.uint8)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("drill") / "bundle").folder


@contextmanager
def listening(server_for):
    """Run a server on a socket that is already listening; yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server, run = server_for(listener)
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def serving(bundle, **changes):
    """Run the application on a port of its own."""
    settings = Settings.model_validate({"bundle": bundle, "name": "cells", "version": "7", "streams": 1} | changes)

    def server_for(listener):
        loader = Loader(settings)
        app = create_app(settings, start_models(settings, loader), loader)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        return server, lambda: server.run(sockets=[listener])

    with listening(server_for) as url:
        yield Endpoint(url=url, name="cells", version="7", alias="champion", key=SecretStr(KEY))


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return tmp_path_factory.mktemp("drill") / "log"


@pytest.fixture(scope="module")
def endpoint(bundle, log):
    """Yield a server with a prediction log, for several tests."""
    with serving(bundle, prediction_log=log) as endpoint:
        yield endpoint


def records_of(log, result):
    """Return the records in the order of sending."""
    records = {record["request_id"]: record for record in read_log(log).to_pylist()}
    ours = {name for name in records if name.startswith(result.request_ids)}
    names = [f"{result.request_ids}-{number}" for number in range(result.drill.images)]
    assert ours == set(names)
    return [records[name] for name in names]


@pytest.fixture
def prepared(tmp_path):
    """Return six white test images, the last two as JPEG; the first has a box of class red."""
    names = [*(f"{i}.png" for i in range(4)), "4.jpg", "5.jpg"]
    for name in names:
        (tmp_path / name).write_bytes(encode(WHITE, "JPEG" if name.endswith("jpg") else "PNG"))
    images = {"key": names, "path": [str(tmp_path / name) for name in names], "split": ["test"] * 6}
    box = {"image": [0], "class_id": [0], "x1": [0], "y1": [0], "x2": [9], "y2": [9]}
    return Dataset.from_columns("cells", CLASSES, images, box)


def test_every_image_arrives_changed_and_is_identifiable(endpoint, log, prepared):
    done = []
    result = run_drill(endpoint, prepared, Drill(kind="brightness", images=20), done.append)
    assert done == list(range(1, 21))
    assert result.request_ids.startswith("drill-")
    assert [record["feature_brightness"] for record in records_of(log, result)] == pytest.approx([0.5] * 20, abs=0.01)
    assert (result.answered, result.test_images, result.models) == (20, 6, ("cells version 7",))
    assert 0 < result.p50_ms <= result.p95_ms
    assert result.explain().startswith("20 images, brightness 1, light x 0.5; cells version 7 answered 20, p50 ")


def test_at_severity_0_the_files_are_sent_as_they_are(endpoint, log, prepared):
    result = run_drill(endpoint, prepared, Drill(kind="mixed", severity=0, images=6))
    assert [record["feature_noise"] for record in records_of(log, result)] == [0.0] * 6


def test_a_changed_jpeg_is_sent_as_jpeg_and_any_other_file_without_loss(prepared):
    drill = Drill(kind=Kind.NOISE)
    sent = [drilling._encoded(path, drill, number, prepared.white) for number, path in enumerate(prepared.paths())]
    assert [kind for _, kind in sent] == ["image/png"] * 4 + ["image/jpeg"] * 2
    expected = drilling._modified(WHITE, drill, 3)
    assert np.array_equal(decode_image(sent[3][0]), expected)


def test_class_shift_sends_more_of_the_rarest_class(endpoint, log, prepared):
    prepared.paths()[0].write_bytes(encode(picture([("red", 0, 0)])))
    result = run_drill(endpoint, prepared, Drill(kind="class-shift", images=30))
    labels = [record["labels"] for record in records_of(log, result)]
    assert labels.count(["red"]) == round((1 / 6 + 1 / 2) * 30)
    assert result.change == "class-shift 1, red on 67% of the images instead of 17%"


def test_a_server_with_keys_gets_the_endpoints_key(bundle, prepared):
    drill = Drill(kind="noise", images=1)
    with serving(bundle, api_keys=KEY_LINE) as endpoint:
        assert run_drill(endpoint, prepared, drill).answered == 1
        with pytest.raises(DeploymentError, match=r"png: http.*/predict answered 401: the key is missing or wrong"):
            run_drill(endpoint.model_copy(update={"key": None}), prepared, drill)


def test_the_key_is_not_written_with_the_endpoint():
    endpoint = Endpoint(url="http://127.0.0.1:1", name="cells", version="7", alias="champion", key=SecretStr(KEY))
    assert KEY not in endpoint.model_dump_json() + repr(endpoint)


def test_a_limit_of_the_rate_is_waited_for(bundle, prepared):
    with serving(bundle, rate="4/second") as endpoint:
        assert run_drill(endpoint, prepared, Drill(kind="blur", images=8)).answered == 8


def test_an_endpoint_that_is_never_ready_ends_the_drill_in_one_line(prepared, monkeypatch):
    monkeypatch.setattr(drilling, "_TRIES", 2)
    with serving(None) as endpoint, pytest.raises(DeploymentError, match="answered 503 2 times: ") as caught:
        run_drill(endpoint, prepared, Drill(kind="blur"))
    assert "\n" not in str(caught.value)


@contextmanager
def answering(*answers):
    """Run a server that gives these answers in turn: status, headers, body."""
    left = list(answers)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            status, headers, body = left.pop(0)
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        try:
            yield Endpoint(url=f"http://127.0.0.1:{server.server_port}", name="x", version="1", alias="")
        finally:
            server.shutdown()


def test_nobody_is_waited_for_as_long_as_he_likes(prepared, monkeypatch):
    monkeypatch.setattr(drilling, "_LONGEST_WAIT_SECONDS", 0.01)
    body = json.dumps({"model": {"name": "x", "version": "1"}}).encode()
    with answering((503, {"Retry-After": "86400"}, b""), (200, {}, body)) as endpoint:
        assert run_drill(endpoint, prepared, Drill(kind="blur", images=1)).models == ("x version 1",)


@pytest.mark.parametrize("answer", [(200, {}, b"<html>"), (302, {"Location": "/"}, b""), (500, {}, b"[]")])
def test_another_server_on_the_port_is_recognised(prepared, answer):
    with answering(answer) as endpoint, pytest.raises(DeploymentError, match=f"answered {answer[0]}, but is not"):
        run_drill(endpoint, prepared, Drill(kind="blur", images=1))


def test_an_endpoint_that_is_gone_is_one_line_with_a_fix(prepared):
    url = f"http://127.0.0.1:{free_port()}"
    endpoint = Endpoint(url=url, name="cells", version="7", alias="champion", log="serving/server.log")
    expected = r"/predict: does not answer \(Connection refused\); see serving/server\.log, .* with visionops deploy$"
    with pytest.raises(DeploymentError, match=expected):
        run_drill(endpoint, prepared, Drill(kind="blur"))


def test_without_images_to_send_it_is_said(prepared):
    endpoint = Endpoint(url="http://127.0.0.1:1", name="cells", version="7", alias="champion")
    with pytest.raises(DataError, match="cells: the test split is empty"):
        run_drill(endpoint, prepared.take([]), Drill(kind="blur"))
    prepared.paths()[2].unlink()
    with pytest.raises(DataError, match=r"2\.png: cannot be read \(.*\); run again with --no-cache"):
        run_drill(endpoint, prepared.take([2]), Drill(kind="blur"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": 0}, "--images 0: expected 1 to 100000"),
        ({"severity": 11}, "--severity 11: blur takes 0 to 10"),
        ({"severity": float("inf")}, "--severity inf: blur takes 0 to 10"),
    ],
)
def test_a_drill_without_a_meaning_is_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        Drill(kind="blur", **changes)


@pytest.mark.parametrize(("kind", "images_of_the_page"), [("blur", 10), ("class-shift", 5)])
def test_the_page_shows_images_before_and_after_where_they_differ(endpoint, prepared, kind, images_of_the_page):
    result = run_drill(endpoint, prepared, Drill(kind=kind, images=5))
    page = render_drill_html(result, prepared)
    assert page.count("data:image/jpeg;base64,") == images_of_the_page
    assert KEY not in page
