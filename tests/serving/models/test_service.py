"""Predictions without HTTP: each method times, records and counts."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import TypeVar

import orjson
import pytest

from deploy.http.errors import UploadTooLarge
from deploy.serving.app import create_app
from deploy.serving.errors import NoModel
from deploy.serving.models.entries import Choice
from deploy.serving.models.models import Loader
from deploy.serving.models.service import Answer, PredictionRequest
from deploy.serving.models.startup import start_models
from deploy.serving.routes.context import Serving
from deploy.serving.settings import Placement
from tests.helpers.bundles import make_bundle
from tests.serving.conftest import settings_of
from visionops.errors import ImageError
from visionops.inference.predictor import Predictor
from visionops.monitoring.log_reading import read_log

_Result = TypeVar("_Result")


@pytest.fixture
def serving(bundle: Path, tmp_path: Path) -> Iterator[Serving]:
    """A model with a prediction log; no server."""
    settings = settings_of(bundle, prediction_log=tmp_path / "log", max_upload_bytes=10_000)
    loader = Loader(settings)
    serving: Serving = create_app(settings, start_models(settings, loader), loader).state.serving
    yield serving
    serving.dispatcher.close()
    serving.recorder.close()
    serving.models.close()


def run(work: Coroutine[None, None, _Result]) -> _Result:
    return asyncio.run(work)


def wanted(serving: Serving, request_id: str = "one") -> PredictionRequest:
    return PredictionRequest(serving.models.choose(), {}, request_id)


def recorded(serving: Serving, tmp_path: Path) -> list[tuple[str, str]]:
    serving.recorder.close()
    table = read_log(tmp_path / "log")
    return sorted(zip(table["request_id"].to_pylist(), table["version"].to_pylist(), strict=True))


def counted(serving: Serving, line: str) -> float:
    text = serving.metrics.text().decode()
    return next((float(row.rsplit(" ", 1)[1]) for row in text.splitlines() if row.startswith(line + " ")), 0.0)


def accept(_model: object) -> None:
    """Accept any model."""


def test_one_image_is_timed_recorded_and_counted(serving: Serving, tmp_path: Path, red_cell: bytes):
    answer, queue_ms = run(serving.predictions.predict(wanted(serving), red_cell))
    assert orjson.loads(answer.json)["detections"][0]["class_name"] == "red"
    assert set(answer.timing_ms) == {"decode", "preprocess", "inference", "postprocess", "total"}
    assert queue_ms >= 0
    assert counted(serving, 'visionops_predictions_total{class="red",model="cells"}') == 1
    assert counted(serving, 'visionops_stage_duration_seconds_count{stage="queue"}') == 1
    assert recorded(serving, tmp_path) == [("one", "1")]


def test_each_of_many_fails_alone(serving: Serving, tmp_path: Path, red_cell: bytes):
    answers = run(serving.predictions.predict_each(wanted(serving), [red_cell, b"no image", bytes(10_001)]))
    assert [type(answer) for answer in answers] == [Answer, ImageError, UploadTooLarge]
    assert str(answers[2]).startswith("image 3: ")
    assert counted(serving, 'visionops_rejected_total{reason="upload_too_large"}') == 1
    assert counted(serving, "visionops_batch_size_sum") == 3
    assert recorded(serving, tmp_path) == [("one/1", "1")]


def test_together_one_failure_fails_all_and_leaves_no_record(serving: Serving, tmp_path: Path, red_cell: bytes):
    with pytest.raises(ImageError, match=r"^image 2: "):
        run(serving.predictions.predict_together(wanted(serving), [red_cell, b"no image"], accept))
    assert counted(serving, 'visionops_predictions_total{class="red",model="cells"}') == 0
    assert recorded(serving, tmp_path) == []


def test_together_one_model_answers_all_and_is_accepted_first(
    serving: Serving, tmp_path: Path, red_cell: bytes, monkeypatch: pytest.MonkeyPatch
):
    bad = make_bundle(tmp_path / "bad", metrics={"version": 2.0}).folder
    champion = serving.models.get()
    canary = serving.loader.load(Placement(bundle=bad, name="cells", version="2", role="canary", share=1.0))
    honest, breaks = Predictor.predict, iter((False, True))

    def fail_later(self: Predictor, *arguments, **options):
        # The canary fails on one of its images only: the champion answers the other one, too.
        if self is canary.predictor and next(breaks):
            raise RuntimeError("engine lost its device")
        return honest(self, *arguments, **options)

    monkeypatch.setattr(Predictor, "predict", fail_later)
    accepted: list[str] = []
    request = PredictionRequest(Choice(canary, champion), {}, "one")
    work = serving.predictions.predict_together(
        request, [red_cell, red_cell], lambda model: accepted.append(model.ref.version)
    )
    served, answers = run(work)
    assert (served.ref.version, [answer.served.ref.version for answer in answers]) == ("1", ["1", "1"])
    assert accepted == ["2", "1"]
    assert recorded(serving, tmp_path) == [("one/1", "1"), ("one/2", "1")]


def test_a_model_that_is_not_accepted_is_not_used(serving: Serving, red_cell: bytes):
    def refuse(_model: object) -> None:
        raise NoModel("not this one")

    with pytest.raises(NoModel):
        run(serving.predictions.predict_together(wanted(serving), [red_cell], refuse))
    assert counted(serving, 'visionops_model_images_total{name="cells",outcome="answered",version="1"}') == 0
