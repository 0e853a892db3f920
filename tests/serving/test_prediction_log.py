"""The prediction log has every answered prediction, even if the server is killed."""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import io
import json
import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image as PillowImage

from deploy.serving.settings import Settings
from tests.helpers.bundles import CLASSES, encode, filled, make_bundle, make_label_bundle, picture
from tests.helpers.disks import mounted
from tests.monitoring.test_log import lines_of, until
from tests.serving.conftest import KEY, TestClient, client_of, settings_of
from tests.serving.models.test_models import broken_at_run_time
from tests.serving.test_app import metric, reload, send
from tests.serving.test_switching import PNG, server
from visionops.data.dataset import Dataset
from visionops.errors import ConfigError
from visionops.inference.bundle import ModelBundle, Thresholds
from visionops.inference.predictor import Predictor
from visionops.monitoring import features
from visionops.monitoring.drift.detection import detect_drift
from visionops.monitoring.images import is_sampled
from visionops.monitoring.log_reading import read_log
from visionops.monitoring.record import RECORD
from visionops.monitoring.reference import records_of
from visionops.monitoring.settings import DriftSettings

NOWHERE = "postgresql://tester@127.0.0.1:1/postgres"
KEY_LINE = f"tests admin sha256:{hashlib.sha256(KEY.encode()).hexdigest()}"
KILLS = int(os.environ.get("VISIONOPS_KILLS", "2"))
CLIENTS = 4
RECORDS = "visionops_prediction_log_records_total"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Path of the log, which does not exist yet."""
    return tmp_path / "log"


@pytest.fixture
def client(bundle: Path, folder: Path) -> Iterator[TestClient]:
    """A server with a prediction log."""
    with client_of(settings_of(bundle, prediction_log=folder, max_upload_bytes=100_000)) as client:
        yield client


def named(request_id: str) -> dict[str, str]:
    return {"X-Request-ID": request_id}


def test_a_prediction_is_remembered_when_it_is_answered(client: TestClient, folder: Path, red_cell: bytes):
    answer = client.post("/predict", content=red_cell, headers=PNG | named("part-17")).json()
    (record,) = read_log(folder).to_pylist()
    assert (record["request_id"], record["model"], record["version"]) == ("part-17", "cells", "1")
    assert record["digest"] == client.get("/model").json()["digest"]
    assert record["latency_ms"] == pytest.approx(answer["timing_ms"]["total"], abs=0.01)
    assert (record["count"], record["labels"], record["confidences"]) == (1, ["red"], [1.0])
    assert (record["areas"], record["centres_x"], record["centres_y"]) == ([1 / 16], [0.625], [0.375])
    assert (record["feature_width"], record["feature_height"]) == (128, 128)
    assert len(record["embedding"]) == 64
    assert metric(client, f'{RECORDS}{{outcome="written"}}') == 1
    assert metric(client, f'{RECORDS}{{outcome="overflow"}}') == 0
    assert metric(client, "visionops_prediction_log_last_write_timestamp_seconds") > 1e9
    assert client.get("/ready").json()["prediction_log"] == "ok"


def test_images_of_one_request_have_different_ids(client: TestClient, folder: Path):
    good = [encode(picture([("green", n, 0)] * (n > 0))) for n in range(3)]
    upload = [("files", image) for image in (good[0], b"no image", good[1], good[2])]
    assert client.post("/predict/batch", files=upload, headers=named("many")).status_code == 200
    pixels = np.stack([picture([("blue", n, 0)]) for n in range(2)])
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": list(pixels.shape), "data": pixels.ravel().tolist()}
    response = client.post("/v2/models/cells/infer", json={"inputs": [tensor]}, headers=named("tensors"))
    assert response.status_code == 200
    remembered = {r["request_id"]: r["labels"] for r in read_log(folder).to_pylist()}
    assert remembered == {
        "many/1": [],
        "many/3": ["green"],
        "many/4": ["green"],
        "tensors/1": ["blue"],
        "tensors/2": ["blue"],
    }


def test_a_share_of_the_images_is_kept_beside_the_records(bundle: Path, folder: Path, red_cell: bytes):
    with client_of(settings_of(bundle, prediction_log=folder, prediction_log_images=0.5)) as client:
        for number in range(16):
            assert client.post("/predict", content=red_cell, headers=PNG | named(f"id-{number}")).status_code == 200
        assert client.post("/predict/batch", files=[("files", red_cell)] * 8, headers=named("..")).status_code == 200
        until(lambda: metric(client, 'visionops_prediction_log_images_total{outcome="written"}') >= 1)
        assert client.get("/ready").json()["prediction_log"] == "ok"
    records = {r["request_id"]: r["image"] for r in read_log(folder).to_pylist()}
    kept = {request_id: folder / image for request_id, image in records.items() if image}
    assert set(kept) == {request_id for request_id in records if is_sampled(request_id, 0.5)}
    assert 0 < len(kept) < len(records) == 24
    assert {path.read_bytes() for path in kept.values()} == {red_cell}
    assert {path.parent.parent for path in kept.values()} == {folder / "images"}
    with pytest.raises(ConfigError, match="--prediction-log-images: needs a folder; set --prediction-log"):
        Settings.parse(["--prediction-log-images", "0.5"], {})


def test_what_is_refused_or_explained_is_not_remembered(client: TestClient, folder: Path, red_cell: bytes):
    assert send(client, red_cell[:150]).status_code == 422
    assert send(client, red_cell, model="other").status_code == 404
    assert client.post("/explain", content=red_cell, headers=PNG, params={"grid": 2}).status_code == 200
    assert read_log(folder).num_rows == 0


def test_labels_are_remembered_with_the_features_of_their_backbone(tmp_path: Path, folder: Path):
    settings = settings_of(make_label_bundle(tmp_path / "labels").folder, prediction_log=folder)
    with client_of(settings) as client:
        assert send(client, encode(filled((0, 255, 0)))).status_code == 200
    (record,) = read_log(folder).to_pylist()
    assert (record["count"], record["labels"], record["areas"]) == (1, ["green"], [])
    assert record["embedding"] == pytest.approx([0, 1, 0], abs=1e-3)


def test_where_a_canary_fails_the_champion_is_remembered_and_once(client, folder, tmp_path, red_cell, monkeypatch):
    bad = make_bundle(tmp_path / "bad", metrics={"version": 2.0}).folder
    assert reload(client, bad, role="canary", share=1.0, min_requests=100).status_code == 200
    monkeypatch.setattr(Predictor, "predict", broken_at_run_time("2", "raises"))
    client.post("/predict", content=red_cell, headers=PNG | named("one"))
    cells = picture([("red", 0, 0)])[None]
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": list(cells.shape), "data": cells.ravel().tolist()}
    client.post("/v2/models/cells/infer", json={"inputs": [tensor]}, headers=named("two"))
    assert [(r["request_id"], r["version"]) for r in read_log(folder).to_pylist()] == [("one", "1"), ("two/1", "1")]


def test_when_the_server_ends_its_segment_is_closed(bundle: Path, folder: Path, red_cell: bytes):
    with client_of(settings_of(bundle, prediction_log=folder)) as client:
        send(client, red_cell)
    assert [path.suffix for path in folder.iterdir()] == [".parquet"]
    assert read_log(folder).num_rows == 1


def test_without_a_folder_nothing_is_remembered(bundle: Path, red_cell: bytes):
    with client_of(settings_of(bundle)) as client:
        assert send(client, red_cell).status_code == 200
        assert "prediction_log" not in client.get("/metrics").text
        assert "prediction_log" not in client.get("/ready").json()


def test_a_record_that_cannot_be_made_fails_no_prediction(client: TestClient, red_cell: bytes, monkeypatch):
    monkeypatch.setattr(features, "describe_image", lambda _: 1 / 0)
    assert send(client, red_cell).status_code == 200
    assert metric(client, f'{RECORDS}{{outcome="failed"}}') == 1


@pytest.fixture(params=["in the way", "full"])
def no_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, str, str]]:
    """A folder that cannot be written, the expected message, and the outcome of its records."""
    place = tmp_path / "place"
    if request.param == "in the way":
        place.write_text("a file")
        yield place, "file exists", "unwritable"
        return
    with mounted(place, "size=64k"):
        (place / "ballast").write_bytes(b"\0" * 65_536)
        yield place, "no space left on device", "disk_full"


def test_without_a_place_to_write_predictions_go_on(bundle: Path, no_place: tuple[Path, str, str], red_cell: bytes):
    place, said, outcome = no_place
    with client_of(settings_of(bundle, prediction_log=place, open_ready=True, api_keys=KEY_LINE)) as client:
        known = {"X-API-Key": KEY}
        for _ in range(3):
            assert client.post("/predict", content=red_cell, headers=PNG | known).status_code == 200
        ready = client.get("/ready", headers=known)
        assert ready.status_code == 200
        assert said in ready.json()["prediction_log"]
        assert str(place) in ready.json()["prediction_log"]
        assert client.get("/ready").json() == {"status": "ready"}
        client.headers.update(known)
        assert metric(client, f'{RECORDS}{{outcome="{outcome}"}}') == 3


def test_without_its_store_predictions_go_on(bundle: Path, folder: Path, red_cell: bytes, caplog):
    lines_of(folder, "before")
    with client_of(settings_of(bundle, prediction_log=folder, prediction_log_store=NOWHERE)) as client:
        until(lambda: "cannot be written" in client.get("/ready").json()["prediction_log"])
        assert client.get("/ready").status_code == send(client, red_cell).status_code == 200
        assert metric(client, "visionops_prediction_log_unshipped_segments") == 1
    assert read_log(folder).num_rows == 2
    (said,) = [record.fields for record in caplog.records if record.message == "log_not_shipped"]
    assert (said["segments"], said["folder"]) == (2, str(folder))
    assert "cannot be written" in said["reason"]


# A process that is killed


@dataclasses.dataclass
class Asking:
    """Clients that send requests until the server is gone."""

    port: int
    name: str
    answered: list[str] = dataclasses.field(default_factory=list)

    def ask(self, client: int, image: bytes) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            for number in range(1_000_000):
                request_id = f"{self.name}.{client}.{number}"
                connection.request("POST", "/predict", image, PNG | named(request_id))
                response = connection.getresponse()
                # The head is enough: what it says is said.
                assert (response.status, response.getheader("x-request-id")) == (200, request_id)
                self.answered.append(request_id)
                json.loads(response.read())
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            return
        finally:
            connection.close()


@pytest.mark.kills
def test_what_was_answered_before_a_kill_is_remembered_once(
    tmp_path: Path, bundle: Path, folder: Path, red_cell: bytes
):
    answered: list[str] = []
    for kill in range(KILLS):
        arguments = ("--bundle", str(bundle), "--streams", "2", "--prediction-log", str(folder))
        with (
            server(tmp_path / "server.log", *arguments) as (process, port),
            ThreadPoolExecutor(CLIENTS) as pool,
        ):
            asking, tick = Asking(port, str(kill)), threading.Event()
            clients = [pool.submit(asking.ask, client, red_cell) for client in range(CLIENTS)]
            enough = random.randint(CLIENTS, 60)
            while len(asking.answered) < enough:
                assert process.poll() is None
                tick.wait(0.001)
            tick.wait(random.uniform(0, 0.02))
            process.kill()
            for client in clients:
                client.result(60)
        answered += asking.answered
    remembered = read_log(folder)["request_id"].to_pylist()
    assert len(remembered) == len(set(remembered))
    assert set(answered) <= set(remembered)
    # Nothing beyond but what was on its way to a client.
    assert len(remembered) <= len(answered) + KILLS * CLIENTS
    print(f"{KILLS} kills: {len(answered)} answered, {len(remembered)} remembered")  # noqa: T201


# ---- at which thresholds

EDITS = [{}, {"confidence": 0.6}, {"confidence": 0.05, "iou": 0.95}]
"""Edits of `serving` after training."""
OPTIONS = [{}, {"confidence": 0.05}, {"confidence": 0.9, "iou": 0.1}]
"""Options that clients send."""
_OF_THE_REQUEST = {"time", "request_id", "model", "version", "digest", "latency_ms", "image"}


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """A detector whose card allows at most 5 boxes, with overlapping neighbours."""
    folder = tmp_path_factory.mktemp("sealed") / "bundle"
    return make_bundle(folder, box_scale=1.6, thresholds=Thresholds(confidence=0.25, iou=0.2, max_detections=5))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """60 images with cells of scores from 0 to 1."""
    folder, rng = tmp_path_factory.mktemp("scenes"), np.random.default_rng(0)
    for number in range(60):
        cells = np.where(rng.random((4, 4, 3)) < 0.2, rng.integers(120, 256, (4, 4, 3)), 0)
        (folder / f"{number:02d}.png").write_bytes(encode(cells.astype(np.uint8).repeat(32, 0).repeat(32, 1)))
    paths = sorted(map(str, folder.iterdir()))
    images = {"key": [Path(path).name for path in paths], "path": paths, "split": ["val"] * 60}
    return Dataset.from_columns("cells", CLASSES, images, {})


@pytest.fixture(scope="module")
def reference(sealed: ModelBundle, scenes: Dataset) -> pa.Table:
    return pa.Table.from_pylist(records_of(sealed, scenes), schema=RECORD)


def _found(table: pa.Table) -> list[dict[str, object]]:
    """Return the records by request, without fields of the request itself."""
    rows = sorted(table.to_pylist(), key=lambda row: row["request_id"] or "")
    return [{name: value for name, value in row.items() if name not in _OF_THE_REQUEST} for row in rows]


def _ask_all(client: TestClient, images: list[bytes], options: dict[str, float], route: str) -> list[int]:
    """Return the number of boxes in each answer."""
    query = {"conf" if name == "confidence" else name: value for name, value in options.items()}
    if route == "predict":
        answers = [
            client.post("/predict", content=image, params=query, headers=PNG | named(f"{number:02d}")).json()
            for number, image in enumerate(images)
        ]
    elif route == "batch":
        answers = [
            answer
            for first in range(0, 60, 6)
            for answer in client.post(
                "/predict/batch",
                files=[("files", image) for image in images[first : first + 6]],
                params=query,
                headers=named(f"{first:02d}"),
            ).json()["results"]
        ]
    else:
        found = []
        for number, image in enumerate(images):
            pixels = np.asarray(PillowImage.open(io.BytesIO(image)))[None]
            tensor = {
                "name": "pixels",
                "datatype": "UINT8",
                "shape": list(pixels.shape),
                "data": pixels.ravel().tolist(),
            }
            body = {"inputs": [tensor], "parameters": options}
            answer = client.post("/v2/models/cells/infer", json=body, headers=named(f"{number:02d}")).json()
            found.append(next(o["shape"] for o in answer["outputs"] if o["name"] == "boxes")[0])
        return found
    return [len(answer["detections"]) for answer in answers]


@pytest.mark.parametrize("route", ["predict", "batch", "v2"])
@pytest.mark.parametrize(("edit", "options"), [(EDITS[1], OPTIONS[0]), (EDITS[0], OPTIONS[1]), (EDITS[2], OPTIONS[2])])
def test_the_log_is_at_the_thresholds_of_the_card_whatever_is_answered(
    sealed: ModelBundle,
    scenes: Dataset,
    reference: pa.Table,
    folder: Path,
    route: str,
    edit: dict[str, float],
    options: dict[str, float],
):
    images = [path.read_bytes() for path in scenes.paths()]
    with client_of(settings_of(sealed.folder, prediction_log=folder, **edit)) as client:
        shown = _ask_all(client, images, options, route)
    log = read_log(folder)
    assert _found(log) == _found(reference)
    report = detect_drift(reference, log, DriftSettings())
    assert not report.drifted
    assert all(column.p_value in (None, 1) or column.p_value > 0.9 for column in report.columns)
    # The answers depend on the settings and the client.
    wanted = Predictor(sealed, thresholds=sealed.card.thresholds.model_copy(update=edit))
    assert shown == [len(wanted.predict(image, options).labels()) for image in images]
    assert shown != [row["count"] for row in reference.to_pylist()]
