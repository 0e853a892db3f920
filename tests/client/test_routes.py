"""Both clients against real servers: every route and every error code."""

from __future__ import annotations

import base64
import hashlib
import inspect
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from onnx import helper, numpy_helper
from PIL.Image import Image as Picture

from deploy.http.errors import ApiError
from deploy.http.gate import WEBSOCKET
from deploy.serving.middleware.access import ROLES
from tests.client.conftest import ONCE, Ask, asking
from tests.helpers.bundles import encode, filled, make_bundle, make_label_bundle, picture
from tests.helpers.disks import mounted
from tests.helpers.programs import until
from tests.helpers.relay import relaying
from tests.serving.test_app import seal
from tests.serving.test_main import server
from visionops.client import Answer, AsyncClient, Client, RequestRefused, ServerUnavailable
from visionops.errors import BundleError, LabelError, OptionError
from visionops.inference.image import ImageProblem

RED = encode(picture([("red", 2, 1)]))
NOISE = encode(np.random.default_rng(0).integers(0, 255, (100, 100, 3), np.uint8))
BLACK = encode(picture())
LARGE = encode(filled((0, 0, 0), width=3000, height=3000))
LABEL = {"boxes": [{"class_name": "red", "box": [64.0, 32.0, 96.0, 64.0]}]}
ADMIN = "admin-key-of-the-tests"
PREDICT, FEEDBACK, RATED = (f"{name}-key-of-the-tests" for name in ("predict", "feedback", "rated"))


# ---- servers


@contextmanager
def serving(*arguments: str, **environment: str) -> Iterator[int]:
    """Run a server process and yield its port."""
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:  # while it starts, and not for other servers
            for name, value in environment.items():
                patch.setenv(name, value)
            _, port, _ = stack.enter_context(server("--streams", "1", *arguments))
        yield port


class Servers:
    """Servers with different settings, each started when it is first needed."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._ports: dict[str, int] = {}
        self.folder = folder
        self.bundle = make_bundle(folder / "cells").folder

    def port(self, name: str) -> int:
        if name not in self._ports:
            self._ports[name] = self._stack.enter_context(getattr(self, f"_{name}")())
        return self._ports[name]

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port(name)}"

    def _of_cells(self, *more: str, **environment: str):
        return serving("--bundle", str(self.bundle), "--name", "cells", "--version", "7", *more, **environment)

    def _small(self):
        limits = ("--max-upload-bytes", "100000", "--max-pixels", "100000", "--max-batch-files", "2")
        log = ("--prediction-log", str(self.folder / "log"), "--prediction-log-images", "1")
        return self._of_cells(*limits, *log)

    def _labels(self):
        bundle = make_label_bundle(self.folder / "colours").folder
        return serving("--bundle", str(bundle), "--name", "colours", VISIONOPS_ADMIN_KEY=ADMIN)

    def _keys(self):
        lines = [
            f"{role}-{number} {role} sha256:{hashlib.sha256(key.encode()).hexdigest()}"
            for number, (role, key) in enumerate((("predict", PREDICT), ("feedback", FEEDBACK), ("predict", RATED)))
        ]
        return self._of_cells("--rate", "2/hour", VISIONOPS_API_KEYS="\n".join(lines))

    def _empty(self):
        return serving("--host", "0.0.0.0", "--max-memory-mb", "1", VISIONOPS_ADMIN_KEY=ADMIN)

    def _hurried(self):
        return self._of_cells("--timeout", "0.00001", "--upload-timeout", "1")

    def _narrow(self):
        return self._of_cells("--workers", "1", "--queue", "0", "--prediction-log", str(self.folder / "records"))

    def _lonely(self):
        return self._of_cells("--max-connections", "2", "--max-body-memory", "1000")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(stack, tmp_path_factory.mktemp("servers"))


# ---- routes


def used_feedback(ask: Ask) -> bool:
    answer = ask("predict", RED)
    first = ask("feedback", answer, label=LABEL, comment="too small", key=f"part-{answer.request_id}")
    again = ask("feedback", answer.request_id, label=LABEL, comment="too small", key=f"part-{answer.request_id}")
    with_image = ask("feedback_on_image", RED, comment="a dent", label=LABEL)
    assert first["item"] == again["item"] == with_image["item"]
    return (first["known"], again["known"]) == (False, True)


def used_admin(ask: Ask, bundle: Path) -> bool:
    try:
        card = ask("reload", {"name": "second", "version": "3", "bundle": str(bundle)})
        names = [status["name"] for status in ask("models")]
        return (card["version"], card["role"], "second" in names) == ("3", "champion", True)
    finally:
        assert "second" not in [status["name"] for status in ask("unload", "second")]


def batch(ask: Ask) -> bool:
    first, second = ask("predict_batch", [RED, b"no image"], conf=0.5, source="line-3")
    assert isinstance(second, RequestRefused)
    assert (second.status, second.code) == (None, "not_an_image")
    return bool(first.detections[0].class_name == "red")


USES: Mapping[str, tuple[str, Callable[[Ask, Servers], bool]]] = {
    "GET /health": ("small", lambda ask, _: ask("is_live")),
    "GET /ready": ("small", lambda ask, _: ask("is_ready") and ask("is_ready", "cells")),
    "GET /model": ("small", lambda ask, _: ask("model")["task"] == ask("model", "cells")["task"] == "detection"),
    "GET /models": ("small", lambda ask, _: [status["name"] for status in ask("models")] == ["cells"]),
    "GET /release": ("small", lambda ask, _: ask("release")["champion"] == "7"),
    "POST /predict": ("small", lambda ask, _: ask("predict", RED, iou=0.5, source="a").detections[0].class_id == 0),
    "POST /predict/batch": ("small", lambda ask, _: batch(ask)),
    "POST /explain": ("small", lambda ask, _: isinstance(ask("explain", RED, grid=2, conf=0.3), Picture)),
    "POST /feedback": ("small", lambda ask, _: used_feedback(ask)),
    "POST /reload": ("labels", lambda ask, servers: used_admin(ask, servers.bundle)),
    "POST /unload": ("labels", lambda ask, servers: used_admin(ask, servers.bundle)),
}
NOT_FOR_THIS_CLIENT = {
    "GET /metrics": "is for Prometheus",
    "GET /openapi.json": "is for those who make a client of another language",
    "GET /stream": "says that it is a WebSocket",
    f"{WEBSOCKET} /stream": "is for cameras: docs/how-to/camera.md",
}
PAGES = {"/", "/docs", "/favicon.ico"}
"""Routes for browsers, like all below /assets/."""


def test_the_table_has_every_route():
    protocol = {route for route in ROLES if route.partition(" ")[2].startswith("/v2")}  # with their own clients
    pages = {route for route in ROLES if (path := route.partition(" ")[2]) in PAGES or path.startswith("/assets/")}
    assert USES.keys() | NOT_FOR_THIS_CLIENT.keys() | protocol | pages == ROLES.keys()


@pytest.mark.parametrize("route", USES)
def test_a_route_is_used(route: str, kind: str, servers: Servers):
    name, use = USES[route]
    with asking(kind, servers.url(name), ADMIN if name == "labels" else None) as ask:
        assert use(ask, servers)


def test_both_clients_have_the_same_methods_and_arguments():
    def methods(client: type) -> dict[str, inspect.Signature]:
        return {name: inspect.signature(found) for name, found in vars(client).items() if not name.startswith("_")}

    assert methods(Client) == methods(AsyncClient)
    assert inspect.signature(Client.__init__) == inspect.signature(AsyncClient.__init__)
    assert all(inspect.iscoroutinefunction(getattr(AsyncClient, name)) for name in methods(Client))


# ---- errors: (server, key, the call that meets the error)

Meet = Callable[[Ask, Servers], object]


def predicting(image: bytes = RED, **options: Any) -> Meet:
    return lambda ask, _: ask("predict", image, **options)


def on_answer(**said: Any) -> Meet:
    return lambda ask, _: ask("feedback", ask("predict", RED), **said)


def placing(**placement: Any) -> Meet:
    def place(ask: Ask, servers: Servers) -> object:
        return ask("reload", {"name": "x", "version": "1", "bundle": str(servers.bundle)} | placement)

    return place


def reusing_a_key(ask: Ask, _: Servers) -> None:
    answer = ask("predict", RED)
    ask("feedback", answer, comment="one", key=answer.request_id)
    ask("feedback", answer, comment="another", key=answer.request_id)


def too_often(ask: Ask, _: Servers) -> None:
    for _ in range(3):
        ask("model")


REFUSALS: Mapping[str, tuple[int, str, str | None, Meet]] = {
    "empty_file": (422, "small", None, predicting(b"")),
    "not_an_image": (422, "small", None, predicting(b"no image")),
    "truncated": (422, "small", None, predicting(NOISE[:3000])),
    "unsupported_format": (422, "small", None, predicting(b"\0\0\0\x18ftypheic" + bytes(40))),
    "too_many_pixels": (413, "small", None, predicting(LARGE)),
    "upload_too_large": (413, "small", None, predicting(bytes(300_000))),
    "bad_parameter": (422, "small", None, predicting(conf=2.0)),
    "unknown_model": (404, "small", None, predicting(model="other")),
    "bad_form": (422, "small", None, lambda ask, _: ask("predict_batch", [RED] * 3)),
    "head_too_large": (431, "small", None, predicting(model="m" * 40_000)),
    "bad_label": (422, "small", None, on_answer(label={"boxes": [{"class_name": "pink", "box": [0, 0, 1, 1]}]})),
    "bad_feedback": (422, "small", None, on_answer(comment="long" * 100_000)),
    "unknown_request": (404, "small", None, lambda ask, _: ask("feedback", "never-sent", comment="x")),
    "key_reused": (409, "small", None, reusing_a_key),
    "admin_disabled": (403, "small", None, placing()),
    "no_prediction_log": (404, "labels", ADMIN, lambda ask, _: ask("feedback", "any", comment="x")),
    "role_conflict": (409, "labels", ADMIN, placing(name="new", role="shadow")),
    "bad_reload": (422, "labels", ADMIN, placing(share=0.5)),
    "bad_bundle": (422, "labels", ADMIN, placing(bundle="absent")),
    "smoke_test_failed": (409, "labels", ADMIN, placing(smoke=["bm8gaW1hZ2U="])),
    "wrong_key": (401, "keys", "another", predicting()),
    "wrong_role": (403, "keys", FEEDBACK, predicting()),
    "image_not_kept": (409, "narrow", None, on_answer(comment="x")),
    "memory_cap": (507, "empty", ADMIN, placing()),
}
"""Errors that one call causes. Each is tested with both clients."""
BUSY = {
    "rate_limited": 429,
    "no_model": 503,
    "timeout": 503,
    "overloaded": 503,
    "busy": 503,
    "memory_full": 503,
    "too_many_connections": 503,
    "feedback_unwritable": 503,
}
"""Errors after which the client retries; each has a test below."""
OTHERS = {
    "upload_too_slow": "test_a_body_that_does_not_arrive",
    "foreign_host": "test_a_name_of_another_machine",
    "keys_needed": "test_another_machine",
    "not_found": "test_a_wrong_path",
    "model_failed": "test_a_model_that_fails",
    "disk_full": "test_a_full_disk",
    # Errors that this client never gets.
    "deadline": "the client sets no deadline",
    "too_many_streams": "belongs to /stream",
    "upgrade_required": "belongs to /stream",
    "bad_request": "is the base of others",
    "foreign_origin": "a browser's page meets it",
    "not_signed_in": "belongs to the console",
    "bad_tensor": "belongs to the Open Inference Protocol",
    "method_not_allowed": "the client uses the right methods",
    "unsupported_media_type": "the client sends the right type",
    "bad_json": "the client sends JSON",
    "missing_file": "the client sends no batch without an image",
    "bad_http": "the client speaks HTTP/1.1",
    "internal_error": "is a defect of the server, with the id of the request",
}
LITERAL = {"bad_parameter", "bad_form", "missing_file", "bad_feedback", "bad_json", "bad_reload"} | {
    "bad_http", "head_too_large", "too_many_connections", "internal_error",
}  # fmt: skip
"""Codes without a class of their own: of `BadRequest`, of connections, and of unexpected errors."""


def test_the_tables_have_every_code():
    def codes(kind: type[ApiError]) -> Iterator[str]:
        if kind.__module__ in {"deploy.http.errors", "deploy.serving.errors"}:
            yield kind.code
        for narrower in kind.__subclasses__():
            yield from codes(narrower)

    domain = {kind.code for kind in (BundleError, LabelError, OptionError)} | set(ImageProblem)
    assert REFUSALS.keys() | BUSY.keys() | OTHERS.keys() == {*codes(ApiError), *domain, *LITERAL}


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_has_its_status_and_code(code: str, kind: str, servers: Servers):
    status, name, key, meet = REFUSALS[code]
    with asking(kind, servers.url(name), key) as ask, pytest.raises(RequestRefused) as refused:
        meet(ask, servers)
    assert (refused.value.status, refused.value.code) == (status, code)
    assert str(refused.value) == f"{refused.value.message} ({status} {code})"


def busy_code(meet: Callable[[], object]) -> str:
    """Return the code of a refused call; "" if it is answered."""
    try:
        meet()
    except ServerUnavailable as error:
        turned_away = error
    else:
        return ""
    assert turned_away.status == BUSY[turned_away.code]
    assert f"({turned_away.status} {turned_away.code})" in str(turned_away)
    return turned_away.code


@pytest.mark.parametrize(
    ("code", "name", "key", "meet"),
    [
        ("rate_limited", "keys", RATED, too_often),
        ("no_model", "empty", None, predicting()),
        ("timeout", "hurried", None, predicting()),
    ],
)
def test_a_busy_server_is_named(code: str, name: str, key: str | None, meet: Meet, kind: str, servers: Servers):
    with asking(kind, servers.url(name), key) as ask:
        assert busy_code(lambda: meet(ask, servers)) == code


@pytest.mark.parametrize(
    ("code", "long_one", "other"),
    [
        ("overloaded", lambda client: client.predict_batch([LARGE] * 10), lambda ask: ask("predict", RED)),
        ("busy", lambda client: client.explain(LARGE, grid=16), lambda ask: ask("explain", RED, grid=2)),
    ],
)
def test_who_comes_beside_a_long_request_is_turned_away(code: str, long_one, other, kind: str, servers: Servers):
    ended = threading.Event()
    url = servers.url("narrow")  # started once, because two threads would start it twice

    def keep_busy() -> None:
        with Client(url, timeout=300, retry=ONCE) as client:
            while not ended.is_set():
                with suppress(ServerUnavailable):  # a slow machine may take longer than the server waits
                    long_one(client)

    thread = threading.Thread(target=keep_busy)
    thread.start()
    try:
        with asking(kind, url) as ask:
            until(lambda: busy_code(lambda: other(ask)) == code)
    finally:
        ended.set()
        thread.join(300)


def test_bodies_of_others_fill_the_memory(kind: str, servers: Servers):
    head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: 2000\r\n\r\n"

    def beside_another() -> bool:
        # Opened for each try, because the server closes connections beyond its limit, such as one of the test before.
        with socket.create_connection(("127.0.0.1", servers.port("lonely"))) as other:
            other.sendall(head + bytes(1000))
            with asking(kind, servers.url("lonely")) as ask:
                return busy_code(lambda: ask("predict", RED)) == "memory_full"

    until(beside_another)


def test_too_many_connections(kind: str, servers: Servers):
    address = ("127.0.0.1", servers.port("lonely"))
    with (
        socket.create_connection(address),
        socket.create_connection(address),
        asking(kind, servers.url("lonely")) as ask,
    ):
        until(lambda: busy_code(lambda: ask("models")) == "too_many_connections")


def test_a_body_that_does_not_arrive(kind: str, servers: Servers):
    with relaying(servers.port("hurried"), hold=1000) as relay, asking(kind, relay.url) as ask:
        with pytest.raises(RequestRefused) as refused:
            ask("predict", bytes(50_000))
        assert (refused.value.status, refused.value.code) == (408, "upload_too_slow")


def test_a_name_of_another_machine(kind: str, servers: Servers):
    # The numeric address of this machine, which no server accepts as its own name.
    with (
        asking(kind, f"http://2130706433:{servers.port('small')}") as ask,
        pytest.raises(RequestRefused, match="foreign_host"),
    ):
        ask("predict", RED)


def test_another_machine(kind: str, servers: Servers):
    found = [a.address for every in psutil.net_if_addrs().values() for a in every if a.family is socket.AF_INET]
    outer = next((address for address in found if not address.startswith("127.")), None)
    if outer is None:
        pytest.skip("this machine has no address but its own")
    with (
        asking(kind, f"http://{outer}:{servers.port('empty')}") as ask,
        pytest.raises(RequestRefused, match=r"403 keys_needed"),
    ):
        ask("predict", RED)


def test_a_wrong_path(kind: str, servers: Servers):
    with asking(kind, f"{servers.url('small')}/v1") as ask, pytest.raises(RequestRefused, match="404 not_found"):
        ask("predict", RED)


def test_a_model_that_fails(kind: str, servers: Servers, tmp_path: Path):
    """Detector that returns exp(200 * score): a box of score 1 on black, and infinity on red."""
    bundle = make_bundle(tmp_path / "bundle").folder
    model = onnx.load(bundle / "model.onnx")
    concat = model.graph.node.pop()
    concat.input[1] = "powers"
    model.graph.node.extend(
        [
            helper.make_node("Mul", ["scores", "steep"], ["exponents"]),
            helper.make_node("Exp", ["exponents"], ["powers"]),
            concat,
        ]
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(200.0, np.float32), "steep"))
    onnx.save(model, bundle / "model.onnx")
    seal(bundle)
    with asking(kind, servers.url("labels"), ADMIN) as ask:
        # The model passes its smoke test on an image without red.
        smoke = [base64.b64encode(BLACK).decode()]
        ask("reload", {"name": f"failing-{kind}", "version": "1", "bundle": str(bundle), "smoke": smoke})
        assert ask("predict", BLACK, model=f"failing-{kind}").detections
        with pytest.raises(RequestRefused, match="500 model_failed"):
            ask("predict", RED, model=f"failing-{kind}")
        first, second = ask("predict_batch", [BLACK, RED], model=f"failing-{kind}")
        assert isinstance(first, Answer)
        assert (second.status, second.code) == (None, "model_failed")


def test_feedback_that_cannot_be_kept(kind: str, servers: Servers, tmp_path: Path):
    damaged = tmp_path / "feedback" / "20260302T061409123456Z-4711-9f2c1e5a.parquet"
    damaged.parent.mkdir()
    damaged.write_bytes(b"no parquet")
    with (
        serving("--bundle", str(servers.bundle), "--prediction-log", str(tmp_path)) as port,
        asking(kind, f"http://127.0.0.1:{port}") as ask,
    ):
        assert busy_code(lambda: ask("feedback_on_image", RED, comment="x")) == "feedback_unwritable"


def test_a_full_disk(kind: str, servers: Servers, tmp_path: Path):
    with (
        mounted(tmp_path / "disk", "size=256k") as disk,
        serving("--bundle", str(servers.bundle), "--prediction-log", str(disk / "log")) as port,
        asking(kind, f"http://127.0.0.1:{port}") as ask,
        pytest.raises(RequestRefused, match="507 disk_full"),
    ):
        ask("feedback_on_image", RED + bytes(300_000), comment="x")


# ---- unexpected responses


def test_probes_say_no_and_refusals_are_not_a_no(kind: str, servers: Servers):
    with asking(kind, servers.url("empty")) as ask:
        assert (ask("is_live"), ask("is_ready")) == (True, False)
    with asking(kind, servers.url("small")) as ask, pytest.raises(RequestRefused, match="unknown_model"):
        ask("is_ready", "other")
    with asking(kind, servers.url("keys"), "another") as ask, pytest.raises(RequestRefused, match="wrong_key"):
        ask("is_ready")


def test_a_batch_of_none_is_not_sent(kind: str, servers: Servers):
    with asking(kind, f"http://127.0.0.1:{servers.port('small')}/wrong") as ask:
        assert ask("predict_batch", []) == []
