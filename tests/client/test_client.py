"""The Python client with real servers: images in every form, typed answers, and invalid arguments."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import launch.cli
from tests.client.conftest import ONCE, asking
from tests.helpers.bundles import encode, filled, make_bundle, make_label_bundle, picture
from tests.helpers.programs import free_port
from tests.serving.test_labels import HEADS
from tests.serving.test_main import server
from visionops.client import Answer, AsyncClient, Client, ClientError, RequestRefused, Retry, ServerUnavailable
from visionops.client import draw_answer as drawn
from visionops.client.images import ImageLike

RED = picture([("red", 2, 1)])
BOX = (64.0, 32.0, 96.0, 64.0)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("detector")
    flags = ("--bundle", str(make_bundle(folder / "bundle").folder), "--name", "cells", "--version", "7")
    logs = ("--prediction-log", str(folder / "log"), "--prediction-log-images", "1")
    with server(*flags, *logs, "--max-upload-bytes", "100000") as (_, port, _):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url, retry=ONCE) as made:
        yield made


@pytest.mark.parametrize(
    "form",
    [encode, lambda image: image, Image.fromarray],
    ids=["bytes", "array", "Pillow"],
)
def test_an_image_in_each_form_is_answered_alike(client: Client, form: Callable[..., ImageLike]):
    answer = client.predict(form(RED))
    assert (answer.model.name, answer.model.version, answer.task) == ("cells", "7", "detection")
    assert (answer.height, answer.width) == RED.shape[:2]
    (found,) = answer.detections
    assert (found.class_name, found.box) == ("red", BOX)
    assert 0 < found.confidence <= 1
    assert answer.request_id


def test_a_path_is_read_and_a_threshold_counts(client: Client, tmp_path: Path):
    path = tmp_path / "part.png"
    path.write_bytes(encode(RED))
    assert len(client.predict(path).detections) == len(client.predict(str(path)).detections) == 1
    assert client.predict(path, conf=1.0).detections == ()


def test_labels_are_typed(tmp_path: Path):
    bundle = make_label_bundle(tmp_path / "attributes", heads=HEADS).folder
    with server("--bundle", str(bundle)) as (_, port, _), Client(f"http://127.0.0.1:{port}") as client:
        answer = client.predict(encode(filled((255, 0, 0))))
        assert answer.task == "attributes"
        assert set(answer.attributes) == {"state", "colour"}
        assert sum(answer.attributes["colour"].probabilities.values()) == pytest.approx(1)
        assert drawn(filled((255, 0, 0)), answer).size == (32, 32)


def test_a_batch_keeps_its_order_and_its_errors(client: Client):
    first, second, third = client.predict_batch([encode(RED), b"no image", encode(filled((0, 0, 0)))])
    assert isinstance(first, Answer)
    assert first.detections[0].box == BOX
    assert isinstance(second, RequestRefused)
    assert second.code == "not_an_image"
    assert isinstance(third, Answer)
    assert third.detections == ()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("127.0.0.1:8000", "expected http://HOST:PORT"),
        ("line-3", "expected http://HOST:PORT"),
        ("ftp://line-3", "expected http://HOST:PORT"),
        ("http://line-3:port", "is not an address"),
    ],
)
def test_an_address_that_is_none_is_named_at_once(kind: str, url: str, message: str):
    with pytest.raises(ClientError, match=message):
        Client(url) if kind == "sync" else AsyncClient(url)


def test_a_key_that_is_none_is_not_shown():
    with pytest.raises(ClientError, match="key: has characters") as error:
        Client("http://127.0.0.1:8000", "geheim\n")
    assert "geheim" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("predict", {"image": encode(RED), "source": "Linie Süd"}, "source 'Linie Süd': expected 1 to 64 letters"),
        ("predict", {"image": encode(RED), "source": "a\nb"}, "source"),
        ("feedback", {"answer": "x", "label": {"boxes": np.zeros(4)}}, "label: is not JSON"),
        ("feedback", {"answer": "x", "label": {"boxes": [float("nan")]}}, "label: is not JSON"),
    ],
)
def test_what_cannot_be_sent_is_said_at_once(kind: str, name: str, arguments: dict[str, Any], message: str):
    with asking(kind, f"http://127.0.0.1:{free_port()}", retry=Retry()) as ask, pytest.raises(ClientError) as error:
        ask(name, **arguments)
    assert not isinstance(error.value, ServerUnavailable)
    assert message in str(error.value)


@pytest.mark.parametrize("image", ["absent.png", np.zeros((4, 4), float), np.zeros((4, 4, 4), np.uint8)])
def test_an_invalid_image_is_not_sent(client: Client, image: ImageLike):
    with pytest.raises(ClientError, match=r"cannot be read \(No such file|expected uint8 of shape"):
        client.predict(image)


def test_without_a_server_the_time_ends():
    with Client(f"http://127.0.0.1:{free_port()}", retry=Retry(seconds=0.5)) as client:
        assert not client.is_ready()
        with pytest.raises(ServerUnavailable, match=r"does not answer \(.*\); is the server running\?"):
            client.predict(RED)


def test_another_server_is_said_to_be_none_of_ours(tmp_path: Path):
    from tests.helpers.web import answering

    with (
        answering({"/predict": "<html>", "/model": "{}"}) as web,
        Client(web.url, retry=ONCE) as client,
        pytest.raises(ClientError, match="the answer is not JSON; is this a VisionOps server"),
    ):
        client.predict(RED)


def test_requests_side_by_side_with_asyncio(url: str):
    async def ask() -> list[Answer]:
        async with AsyncClient(url, retry=ONCE) as client:
            assert await client.is_ready()
            assert (await client.model())["task"] == "detection"
            assert len(await client.predict_batch([RED, RED])) == 2
            assert (await client.explain(RED, grid=2)).size == (RED.shape[1], RED.shape[0])
            with pytest.raises(RequestRefused, match="not_an_image"):
                await client.predict(b"no image")
            answers = await asyncio.gather(*(client.predict(RED) for _ in range(8)))
            assert (await client.feedback(answers[0], comment="wrong"))["use_case"] == "cells"
            return answers

    answers = asyncio.run(ask())
    assert {answer.detections[0].box for answer in answers} == {BOX}
    assert len({answer.request_id for answer in answers}) == 8


def test_what_cannot_be_drawn_is_said(client: Client):
    with pytest.raises(ClientError, match="image: cannot be drawn: Pillow cannot read it as an image"):
        drawn(b"no image", client.predict(RED))


def test_the_command_names_the_image_that_is_refused_and_keeps_all_drawings(url: str, tmp_path: Path):
    paths = [tmp_path / folder / "part.png" for folder in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(encode(RED))
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    command = ["predict", *map(str, paths), str(bad), "--url", url, "--draw", str(tmp_path / "drawn")]
    done = CliRunner().invoke(launch.cli.app, command)
    assert done.exit_code == 2
    assert f"{bad}: " in done.output
    assert "(422 not_an_image)" in done.output
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == {"part.png", "part-2.png"}


def test_the_command_prints_and_draws(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "part.png"
    path.write_bytes(encode(RED))
    done = CliRunner().invoke(launch.cli.app, ["predict", str(path), "--url", url, "--draw", str(tmp_path / "drawn")])
    assert done.exit_code == 0, done.output
    assert "red  64,32 to 96,64" in done.output
    before = np.asarray(Image.open(io.BytesIO(encode(RED))).convert("RGB"))
    assert np.asarray(Image.open(tmp_path / "drawn" / "part.png")).shape == before.shape
    assert (np.asarray(Image.open(tmp_path / "drawn" / "part.png")) != before).any()
    done = CliRunner().invoke(launch.cli.app, ["predict", str(path), "--url", url, "--json", "--conf", "1"])
    assert '"detections": []' in done.output
    done = CliRunner().invoke(launch.cli.app, ["predict", str(tmp_path / "absent.png"), "--url", url])
    assert done.exit_code == 2
    assert "absent.png: cannot be read (No such file or directory)" in done.output
