"""Metrics for Prometheus."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.serving.metrics import MULTIPROCESS_VARIABLE
from tests.conftest import ROOT
from tests.serving.conftest import TestClient, client_of, settings_of
from tests.serving.test_app import metric, send
from visionops.inference.predictor import Predictor

UNITS = ("_seconds", "_bytes")
PLAIN = {"visionops_confidence", "visionops_batch_size", "visionops_canary_agreement", "visionops_shadow_agreement"}
"""Histograms without a unit."""
LABELS = {
    "visionops_requests": {"route", "status"},
    "visionops_request_duration_seconds": {"route"},
    "visionops_inference_duration_seconds": {"model"},
    "visionops_stage_duration_seconds": {"stage"},
    "visionops_predictions": {"model", "class"},
    "visionops_confidence": {"model"},
    "visionops_rejected": {"reason"},
    "visionops_model_info": {"name", "version", "alias", "role", "digest"},
    "visionops_model_images": {"name", "version", "outcome"},
    "visionops_streams": {"name", "version"},
    "visionops_mode_switches": {"name", "version"},
    "visionops_in_flight": set(),
    "visionops_queue_depth": set(),
    "visionops_models_draining": set(),
    "visionops_models_missing": set(),
    "visionops_ready": set(),
    "visionops_upload_bytes": set(),
    "visionops_batch_size": set(),
    "visionops_keys_last_read_successful": set(),
}


def test_names_and_labels_are_by_the_conventions(client: TestClient, red_cell: bytes):
    send(client, red_cell)
    send(client, b"x")
    text = client.get("/metrics").text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    families = {name: family for name, family in families.items() if not name.endswith("_created")}
    assert all(re.fullmatch(r"(visionops|process)_[a-z0-9_]+", name) for name in families)
    ours = {name: family for name, family in families.items() if name.startswith("visionops_")}
    assert set(LABELS) <= set(ours)
    for name, family in ours.items():
        assert family.documentation.endswith("."), name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels == LABELS.get(name, labels), name
        assert not re.search(r"_(ms|milliseconds|kb|mb|count|sum|total)$", name)
        if family.type == "histogram":
            assert name.endswith(UNITS) or name in PLAIN, name
        if family.type == "counter":
            assert all(sample.name == f"{name}_total" for sample in family.samples)
    assert families["visionops_request_duration_seconds"].type == "histogram"


def test_refusals_are_counted_by_reason(client: TestClient, red_cell: bytes):
    send(client, b"x")
    send(client, b"")
    send(client, b"0" * 100_001)
    send(client, red_cell[:-30])
    send(client, red_cell, conf=2)
    client.post("/predict", content=b"x")
    client.post("/predict", headers={"Host": "evil.example"})
    client.post("/reload")
    client.post("/predict/batch", files=[("files", b"x"), ("files", red_cell)])
    reasons = {
        "not_an_image": 2,
        "empty_file": 1,
        "upload_too_large": 1,
        "truncated": 1,
        "bad_parameter": 1,
        "unsupported_media_type": 1,
        "foreign_host": 1,
        "wrong_key": 1,
    }
    for reason, count in reasons.items():
        assert metric(client, f'visionops_rejected_total{{reason="{reason}"}}') == count, reason


def test_no_request_makes_a_new_series(client: TestClient):
    def series() -> set[str]:
        return {line.rpartition(" ")[0] for line in client.get("/metrics").text.splitlines()}

    def ask(name: str) -> None:
        client.get(f"/{name}")
        client.get(f"/v2/models/{name}")
        client.post("/predict", params={"model": name})
        client.get("/models", headers={"X-Request-ID": name, "X-Request-Key": name})

    ask("a")
    client.get("/metrics")
    before = series()
    for name in ("b", "c%20d", 'e"f', "g.h"):
        ask(name)
    assert series() == before


def test_queue_and_requests_in_flight_are_seen(bundle: Path, red_cell: bytes, monkeypatch: pytest.MonkeyPatch):
    started, go_on = threading.Semaphore(0), threading.Event()
    predict = Predictor.predict

    def slow(self, *args, **kwargs):
        started.release()
        assert go_on.wait(180)
        return predict(self, *args, **kwargs)

    with client_of(settings_of(bundle, workers=1)) as client, ThreadPoolExecutor(3) as threads:
        monkeypatch.setattr(Predictor, "predict", slow)
        sent = [threads.submit(send, client, red_cell) for _ in range(3)]
        try:
            assert started.acquire(timeout=20)
            depth = 0.0
            while depth < 2 and not all(answer.done() for answer in sent):
                depth = metric(client, "visionops_queue_depth")
            in_flight = metric(client, "visionops_in_flight")
        finally:
            go_on.set()
        assert [answer.result().status_code for answer in sent] == [200] * 3
        assert (depth, in_flight) == (2, 4), "and the one who asks"
        assert (metric(client, "visionops_queue_depth"), metric(client, "visionops_in_flight")) == (0, 1)


COUNTS = """
import sys
from deploy.serving.metrics import Metrics
from deploy.serving.models.model_metrics import ModelMetrics
metrics = Metrics()
ModelMetrics(metrics).names([True, False] if sys.argv[2] == "show" else [True])
metrics.begin()
for _ in range(int(sys.argv[1])):
    metrics.begin()
    metrics.request("/predict", 200, 0.01)
    metrics.rejected("truncated")
print(metrics.text().decode() if sys.argv[2] == "show" else "counted", flush=True)
sys.stdin.read()
"""


def test_several_processes_answer_with_their_sum(tmp_path: Path):
    def start(count: int, what: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", COUNTS, str(count), what],
            cwd=ROOT,
            env=os.environ | {MULTIPROCESS_VARIABLE: str(tmp_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    with start(3, "quiet") as killed, start(5, "quiet") as alive:
        try:
            assert killed.stdout.readline() == alive.stdout.readline() == "counted\n"
            shown = _show(start(7, "show"))
            assert 'visionops_requests_total{route="/predict",status="200"} 15.0' in shown
            assert 'visionops_rejected_total{reason="truncated"} 15.0' in shown
            assert 'visionops_request_duration_seconds_count{route="/predict"} 15.0' in shown
            assert "visionops_in_flight 3.0" in shown
            assert "visionops_ready 1.0" in shown
            assert "visionops_models_missing 1.0" in shown, "that of the worst"
            assert "pid=" not in shown
            killed.kill()
            killed.wait(60)
            shown = _show(start(1, "show"))
            assert 'visionops_requests_total{route="/predict",status="200"} 16.0' in shown, "what was counted stays"
            assert "visionops_in_flight 2.0" in shown, "what was held does not"
        finally:
            killed.kill()
            alive.kill()


def _show(process: subprocess.Popen[str]) -> str:
    with process:
        return process.communicate(timeout=60)[0]
