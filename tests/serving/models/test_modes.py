"""A model is ready in one mode; the others are compiled afterwards and compete for the traffic."""

from __future__ import annotations

import asyncio
import functools
import gc
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.serving.models.dispatcher import Dispatcher
from deploy.serving.models.models import Loader, ServedModel
from deploy.serving.settings import Settings
from tests.serving.conftest import client_of, settings_of
from tests.serving.test_app import metric
from visionops.inference.mode_store import ModeStore
from visionops.inference.settings import EngineName

SECONDS = 120.0
"""Timeout in seconds, long enough for a busy machine."""


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """On any machine."""
    for module in ("models", "modes"):
        monkeypatch.setattr(f"deploy.serving.models.{module}.available_cpus", lambda: 2)


def load(settings: Settings) -> tuple[Loader, ServedModel]:
    loader = Loader(settings)
    ref = settings.model_ref()
    assert ref is not None
    return loader, loader.load(ref)


@pytest.mark.parametrize("engine", list(EngineName))
def test_before_readiness_only_the_first_mode_is_compiled(bundle: Path, tmp_path: Path, engine: EngineName):
    loader, served = load(settings_of(bundle, streams=0, engine=engine, cache=tmp_path))
    try:
        assert served.predictor.engine.streams == (2,)
        assert not loader.wait(0.1)
        loader.ready()
        assert loader.wait(SECONDS)
        assert served.predictor.engine.streams == (2, 1)
        assert served.mode.tuner is not None
        assert served.mode.tuner.state.modes == (1, 2)
    finally:
        loader.close()


def test_a_server_that_is_ready_compiles_the_other_modes_and_shows_them(bundle: Path, red_cell: bytes):
    with client_of(settings_of(bundle, streams=0)) as client:
        mode = client.get("/model").json()["mode"]
        assert mode["first"] == {"streams": 2, "source": "rule", "age_seconds": None}
        assert (mode["threads"], mode["streams"], mode["switches"], mode["rates"]) == (2, 2, 0, {})
        assert client.post("/predict", files={"file": red_cell}).status_code == 200
        until = time.monotonic() + SECONDS
        while client.get("/model").json()["mode"]["compiled"] != [1, 2]:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert metric(client, 'visionops_streams{name="cells",version="1"}') == 2
        assert metric(client, 'visionops_mode_switches_total{name="cells",version="1"}') == 0


def test_a_fixed_number_of_streams_is_kept(bundle: Path):
    _, served = load(settings_of(bundle, streams=1))
    assert served.mode.tuner is None
    assert served.predictor.engine.streams == (1,)
    status = served.mode.status(served.predictor)
    assert (status.streams, status.first.source, status.rates) == (1, "option", {})


def test_a_stored_mode_is_the_first_guess_and_shows_its_age(bundle: Path, tmp_path: Path):
    settings = settings_of(bundle, streams=0, cache=tmp_path)
    _, served = load(settings)
    folder = tmp_path / served.digest[:12]
    ModeStore(folder, served.predictor.bundle, EngineName.OPENVINO, settings.device, 2).write(1, {1: 30.0, 2: 20.0})
    _, again = load(settings)
    assert again.predictor.engine.streams == (1,)
    first = again.mode.status(again.predictor).first
    assert (first.streams, first.source) == (1, "stored")
    assert first.age_seconds is not None
    assert 0 <= first.age_seconds < SECONDS


def test_a_model_begins_with_the_mode_of_the_one_before(bundle: Path, other_bundle: Path, tmp_path: Path):
    settings = settings_of(bundle, streams=0, cache=tmp_path)
    loader, served = load(settings)
    folder = tmp_path / served.digest[:12]
    ModeStore(folder, served.predictor.bundle, EngineName.OPENVINO, settings.device, 2).write(1, {})
    _, served = load(settings)
    new = loader.load(served.ref.model_copy(update={"bundle": other_bundle, "version": "2"}), beside=served)
    assert (new.mode.first, new.mode.source) == (1, "model before")


def test_without_room_a_mode_is_not_compiled_and_the_model_answers(bundle: Path, red_cell: bytes, caplog):
    loader, served = load(settings_of(bundle, streams=0))
    try:
        loader._memory._most = 1  # of the process that runs the tests, nobody knows how much it has
        loader.ready()
        assert loader.wait(SECONDS)
        assert served.predictor.engine.streams == (2,)
        assert "mode_not_compiled" in caplog.messages
        assert served.predict(red_cell).labels()
    finally:
        loader.close()


def test_a_model_that_was_replaced_is_not_kept_for_its_modes(bundle: Path):
    loader, served = load(settings_of(bundle, streams=0))
    gone = weakref.ref(served.predictor)
    del served
    gc.collect()
    assert gone() is None
    loader.ready()
    assert loader.wait(SECONDS)
    loader.close()


def test_under_load_both_modes_are_measured_on_real_requests(bundle: Path, tmp_path: Path, red_cell: bytes):
    """The real engine behind the real dispatcher; which mode is faster is the machine's affair."""
    loader, served = load(settings_of(bundle, streams=0, cache=tmp_path))
    assert served.mode.tuner is not None
    tuner, expected = served.mode.tuner, served.predict(red_cell).to_dict()

    async def client(dispatcher: Dispatcher, until: float) -> None:
        while set(tuner.state.images_per_second) != {1, 2} and time.monotonic() < until:
            answer = await dispatcher.run(functools.partial(served.predict, red_cell))
            assert answer.to_dict()["detections"][0]["class_id"] == expected["detections"][0]["class_id"]

    async def clients() -> None:
        dispatcher = Dispatcher(4, 64, SECONDS)
        loader.ready(lambda: dispatcher.waiting)
        until = time.monotonic() + SECONDS
        await asyncio.gather(*(client(dispatcher, until) for _ in range(16)))
        dispatcher.close()

    try:
        asyncio.run(clients())
        rates = served.mode.status(served.predictor).rates
        assert set(rates) == {1, 2}
        assert all(rate.images_per_second > 0 for rate in rates.values())
    finally:
        loader.close()


def test_a_switch_is_shown_counted_logged_and_stored(
    bundle: Path, tmp_path: Path, red_cell: bytes, caplog, monkeypatch
):
    """The engine is real and slowed down in one mode, more than any noise of the machine."""
    caplog.set_level("INFO", logger="visionops.serving")
    with client_of(settings_of(bundle, streams=0, cache=tmp_path)) as client:
        served = client.app.state.serving.models.get()
        engine, until = served.predictor.engine, time.monotonic() + SECONDS
        compute, waits = engine.infer, {1: 0.005, 2: 0.08}

        def infer(tensor, *, streams=1):
            time.sleep(waits[streams])
            return compute(tensor, streams=streams)

        monkeypatch.setattr(engine, "infer", infer)

        def ask(_: int) -> None:
            while served.mode.streams == 2 and time.monotonic() < until:
                served.predict(red_cell)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(ask, range(6)))
        mode = client.get("/model").json()["mode"]
        assert (mode["streams"], mode["switches"], mode["first"]["streams"]) == (1, 1, 2)
        assert mode["rates"]["1"]["images_per_second"] > mode["rates"]["2"]["images_per_second"]
        which = 'name="cells",version="1"'
        assert metric(client, f"visionops_streams{{{which}}}") == 1
        assert metric(client, f"visionops_mode_switches_total{{{which}}}") == 1
        for streams, rate in mode["rates"].items():
            shown = metric(client, f'visionops_mode_rate{{name="cells",streams="{streams}",version="1"}}')
            assert shown == pytest.approx(rate["images_per_second"], abs=0.01)
        assert "mode_switched" in caplog.messages
        folder = tmp_path / served.digest[:12]
        while not list(folder.glob("mode-*.json")):
            assert time.monotonic() < until
            time.sleep(0.02)
        store = ModeStore(folder, served.predictor.bundle, EngineName.OPENVINO, settings_of(bundle).device, 2)
        assert store.read().streams == 1
