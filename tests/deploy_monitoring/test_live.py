"""Real servers with real failures, monitored by a real Prometheus with a real Alertmanager.

The configuration files are the shipped ones, with addresses filled in and shorter times.
"""

from __future__ import annotations

import dataclasses
import http.client
import http.server
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import uvicorn
import yaml
from fastapi import FastAPI
from onnx import numpy_helper

from deploy.console.__main__ import open_console
from deploy.console.options import ConsoleOptions
from deploy.console.status import status_router as console_status
from deploy.control.__main__ import open_control
from deploy.control.app import create_app
from deploy.control.options import ControlOptions
from deploy.http.request_log import RequestLog
from launch import RunSummary
from launch.run_metrics import run_with_metrics
from stacks.deployers.manifests.scaling import prometheus_queries
from stacks.deployers.manifests.settings import KedaScaling
from tests.conftest import ROOT
from tests.deploy_monitoring.test_rules import alerts
from tests.helpers.bundles import encode, filled, make_bundle
from tests.helpers.dashboards import panels, shows_something
from tests.helpers.disks import mounted
from tests.helpers.programs import (
    MONITORING,
    RULES,
    alerter,
    alertmanager,
    alertmanager_config,
    free_port,
    get,
    prometheus,
    pushgateway,
    query,
    until,
)
from tests.helpers.review import ANNA, STEEL, UPLOAD, png
from tests.helpers.tracking import evaluation
from tests.helpers.traffic import compare_traffic
from tests.serving.conftest import KEY
from tests.serving.test_switching import server
from visionops.alerts import decision_alerts
from visionops.errors import ConfigError
from visionops.inference.bundle import ModelBundle
from visionops.monitoring.curves import TrainingCurves
from visionops.monitoring.drift.report import DriftReport
from visionops.monitoring.gateway import Pushgateway
from visionops.monitoring.log import PredictionLog
from visionops.monitoring.metrics import push_monitoring
from visionops.monitoring.policy import Observation, Performance, decide
from visionops.monitoring.settings import PerformanceLevels, RetrainPolicy
from visionops.review.states import Verdict
from visionops.review_store.opening import open_database
from visionops.runs.states import Kind, RunRequest, RunState

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML warns of its own code

WINDOW = "10s"
SEVERITIES = {(rule["alert"], rule["labels"]["severity"]) for rule in alerts()}
HEADERS = {"X-API-Key": KEY, "Content-Type": "image/png"}
BRIGHT, DIM = (encode(filled(colour, width=128, height=128)) for colour in ((255, 0, 0), (245, 0, 0)))


def make_weak_bundle(folder: Path) -> Path:
    """Detector with invalid scores of 1.1 on a saturated image, and low scores on a slightly darker one."""
    sound = make_bundle(folder / "sound", gain=20)
    model = onnx.load(sound.folder / "model.onnx")
    bias = next(value for value in model.graph.initializer if value.name == "bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.1), "bias"))
    weak = folder / "weak"
    weak.mkdir()
    onnx.save(model, weak / "model.onnx")
    return ModelBundle.create(weak, sound.card).folder


def ask(port: int, path: str, body: bytes, kind: str = "image/png") -> int:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("POST", path, body, HEADERS | {"Content-Type": kind})
        response = connection.getresponse()
        response.read()
        return response.status


def ask_for_many(port: int) -> int:
    parts = [b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n' + BRIGHT + b"\r\n"] * 2
    return ask(port, "/predict/batch", b"".join(parts) + b"--x--\r\n", "multipart/form-data; boundary=x")


def send_feedback(port: int) -> int:
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + BRIGHT + b"\r\n--x--\r\n"
    return ask(port, "/feedback?model=cells", part, "multipart/form-data; boundary=x")


def ask_slowly(port: int, stop: threading.Event) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.putrequest("POST", "/v2/models/cells/infer")
        for name, value in (HEADERS | {"Content-Length": "2"}).items():
            connection.putheader(name, value)
        connection.endheaders()
        stop.wait(1.2)
        connection.send(b"{}")
        connection.getresponse().read()


@contextmanager
def clients(port: int, control: int) -> Iterator[None]:
    """Send all kinds of requests repeatedly, more at once than the server accepts."""
    stop = threading.Event()

    def again(asks: Callable[[], object]) -> None:
        while not stop.wait(0.02):
            asks()

    todo: list[Callable[[], object]] = [
        lambda: ask(port, "/predict?model=cells", BRIGHT),
        lambda: ask(port, "/predict?model=tried", BRIGHT),
        lambda: ask(port, "/predict?model=weak", BRIGHT),
        lambda: ask(port, "/predict?model=weak", DIM),
        lambda: ask_for_many(port),
        lambda: send_feedback(port),
        lambda: get(control, "/runs/none"),
        lambda: ask_slowly(port, stop),
    ]
    with ThreadPoolExecutor(len(todo)) as threads:
        running = [threads.submit(again, asks) for asks in todo]
        try:
            yield
        finally:
            stop.set()
            for each in running:
                each.result(30)


class Webhook(http.server.ThreadingHTTPServer):
    """Webhook that stores the alerts from Alertmanager."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[dict] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.received += body["alerts"]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def webhook() -> Iterator[Webhook]:
    with Webhook() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(20)


def quick_rules(folder: Path) -> Path:
    """Our rules, with windows of seconds."""
    content = yaml.safe_load(RULES.read_text())
    for group in content["groups"]:
        for rule in group["rules"]:
            rule["expr"] = re.sub(r"(?<=[\[ ])\d+m\b", WINDOW, rule["expr"])
            rule.pop("for", None)
    path = folder / "rules.yml"
    path.write_text(yaml.safe_dump(content))
    return path


def observe(report: DriftReport, performance: Performance | None = None) -> Observation:
    return Observation(
        images=report.current_images,
        drift_share=report.share,
        embedding_drifted=report.embedding_drifted,
        drift=report.explain(),
        new_labels=0,
        age_days=100,
        hours_since_training=2400,
        performance=performance,
    )


def run_pipelines(gateway: Pushgateway, alertmanager_port: int) -> None:
    """Push the figures of `steel`, whose monitoring also sends an alert; of `casting`, whose monitoring has ended with
    an alert; of `pcb`, where one column drifted; and of two trainings of `faces`, of which the second fails.
    """
    agreed = {"map50": PerformanceLevels(warning=0.6, critical=0.5)}
    policy, now = RetrainPolicy(levels=agreed), datetime.now(UTC)
    other_camera = compare_traffic(["feature_brightness", "feature_sharpness", "embedding"])
    fallen = Performance(metric="map50", value=0.4, interval=(0.35, 0.45), at_test=0.7, images=200)
    seen = observe(other_camera, fallen)
    decision = decide(seen, policy)
    sender = alerter(url=f"http://127.0.0.1:{alertmanager_port}")
    sender.send(decision_alerts("steel", decision, seen, policy))
    until(lambda: "VisionOpsDecision" in get(alertmanager_port, "/api/v2/alerts")[1].decode())
    push_monitoring(gateway, "steel", other_camera, seen, decision, "3", now, policy=policy)
    old, long_ago = now - timedelta(days=91), now - timedelta(days=3)
    push_monitoring(gateway, "casting", other_camera, seen, decision, "3", old, long_ago, policy)
    darker = compare_traffic(["feature_brightness"])
    push_monitoring(gateway, "pcb", darker, observe(darker), decide(observe(darker), policy), "3", now)
    per_class = {"eyes": {"instances": 9, "accuracy": 0.9, "f1": 0.8}}
    measured = dataclasses.replace(evaluation(), metrics={"accuracy": 0.9}, per_class=per_class, headline=("accuracy",))
    steps = {"ran": 6, "cached": 2}
    trained = RunSummary("faces", "local", steps=steps, splits={"train": 70, "test": 15}, evaluation=measured)
    curves = TrainingCurves(gateway, "faces", "training", epochs=2)
    curves.epoch({"train_loss": 0.5, "val_accuracy": 0.8, "learning_rate": 0.001}, 1)
    assert curves.close() == ""
    run_with_metrics(gateway, "training", "faces", lambda: trained)

    def fail() -> RunSummary:
        raise ConfigError("no such folder")

    with pytest.raises(ConfigError):
        run_with_metrics(gateway, "training", "faces", fail)


def leave_segment(folder: Path) -> None:
    """Write a closed segment of the prediction log, as a server does."""
    log = PredictionLog(folder)
    record = {"time": datetime.now(UTC), "request_id": "a", "model": "cells", "version": "1", "embedding": [0.5]}
    assert log.append(record)
    log.close()


@contextmanager
def idle_control(folder: Path) -> Iterator[tuple[int, Callable[[], None]]]:
    """Port of a control service that never starts its queued run, and a function that loses a run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISIONOPS_REVIEW_DATABASE", str(folder / "review.db"))
        patch.setenv("VISIONOPS_REVIEW_IMAGES", str(folder / "images"))
        options = ["--configs", str(ROOT / "configs"), "--open-metrics", "--runs", str(folder / "runs")]
        control, _ = open_control(ControlOptions.parse(options, {}))
    waits = control.runs.add(RunRequest(Kind.RETRAIN, "steel"), "planner", "once", datetime.now(UTC), lambda _: None)
    config = uvicorn.Config(create_app(control), log_config=None)
    config.load()
    running = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=running.run, args=([listener],), daemon=True)
        thread.start()
        try:
            port = listener.getsockname()[1]
            until(lambda: get(port, "/metrics")[0] == 200)
            yield port, lambda: control.metrics.run_ended(dataclasses.replace(waits, state=RunState.LOST))
        finally:
            running.should_exit = True
            thread.join(20)
            control.review.close()
            control.runs.close()


@contextmanager
def used_console(folder: Path) -> Iterator[int]:
    """Port of a console's metrics, with constant logins, predictions and decisions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISIONOPS_REVIEW_DATABASE", str(folder / "review.db"))
        patch.setenv("VISIONOPS_REVIEW_IMAGES", str(folder / "images"))
        options = ConsoleOptions.parse(["--configs", str(ROOT / "configs"), "--runs", str(folder / "runs")], {})
        console, _ = open_console(options, open_database())
    console.review.put_use_case(STEEL)
    console.review.add("steel", png(1), UPLOAD, ANNA, key="a", now=datetime.now(UTC))
    app, stop = FastAPI(), threading.Event()
    app.add_middleware(RequestLog, metrics=console.metrics, probes=frozenset())
    app.include_router(console_status(console))

    def use() -> None:
        while not stop.wait(0.1):
            console.metrics.viewed("/")
            console.metrics.predicted(is_ok=True)
            console.metrics.decided("steel", Verdict.CONFIRM, "anna")
            console.metrics.login("ok")
            console.metrics.rejected("forbidden")

    config = uvicorn.Config(app, log_config=None)
    running = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads = [threading.Thread(target=running.run, args=([listener],), daemon=True), threading.Thread(target=use)]
        for thread in threads:
            thread.start()
        try:
            port = listener.getsockname()[1]
            until(lambda: get(port, "/metrics")[0] == 200)
            yield port
        finally:
            stop.set()
            running.should_exit = True
            for thread in threads:
                thread.join(20)
            console.close()


def prometheus_config(
    folder: Path,
    targets: list[int],
    gateway: int,
    alertmanager_port: int,
    control: Sequence[int] = (),
    console: Sequence[int] = (),
) -> Path:
    """Our configuration of Prometheus with addresses filled in, which scrapes every second."""
    folder.mkdir()
    content = yaml.safe_load((MONITORING / "prometheus" / "prometheus.yml").read_text())
    # To Alertmanager, one and the same alert of two that watch would be on and off by turns.
    labels = {"watcher": folder.name}
    content["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s", "external_labels": labels}
    content["rule_files"] = [str(quick_rules(folder))]
    places = {"targets": targets, "pushgateway": [gateway], "alertmanagers": [alertmanager_port], "control": control}
    places["console"] = console
    for place, ports in places.items():
        (folder / place).mkdir()
        found = [{"targets": [f"127.0.0.1:{port}" for port in ports]}]
        (folder / place / "local.yml").write_text(yaml.safe_dump(found))
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(content))
    return path


@dataclasses.dataclass(frozen=True, slots=True)
class Watched:
    """Addresses of the monitored services and of Prometheus."""

    prometheus: int
    blind: int
    """A second Prometheus without targets."""
    alertmanager: int
    webhook: Webhook
    servers: dict[str, str]
    """Instances of the servers busy, empty and absent."""
    expected: set[tuple[str, str]]
    """Return the firing alerts."""

    def fired(self) -> set[tuple[str, str]]:
        """Return the alerts that have fired since the start."""
        seen = [
            sample["metric"]
            for port in (self.prometheus, self.blind)
            for sample in query(port, 'count_over_time(ALERTS{alertstate="firing"}[10m])')
        ]
        return {(labels["alertname"], labels["severity"]) for labels in seen}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    make_bundle(folder / "good")
    make_bundle(folder / "other", gain=1.5)
    make_weak_bundle(folder)
    (folder / "models.yaml").write_text("""
models:
  - {name: cells, version: "1", bundle: good}
  - {name: cells, version: "2", bundle: weak, role: canary, share: 1.0, min_requests: 5}
  - {name: cells, version: "3", bundle: other, role: shadow}
  - {name: tried, version: "1", bundle: good}
  - {name: tried, version: "2", bundle: other, role: canary, share: 0.5, min_agreement: 0, max_latency_ratio: 1000,
     split_by: request}
  - {name: weak, version: "1", bundle: weak}
  - {name: broken, version: "1", bundle: nowhere}
""")
    keys = folder / "keys"
    keys.write_text("")
    taken = folder / "taken"
    taken.write_text("no folder, so no prediction log")
    limits = ("--streams", "1", "--workers", "1", "--queue", "0")
    files = ("--models", str(folder / "models.yaml"), "--keys", str(keys), "--prediction-log", str(taken))
    with ExitStack() as stack:
        enter = stack.enter_context
        hook = enter(webhook())
        url = f"http://127.0.0.1:{hook.server_port}/alerts"
        manager = enter(alertmanager(folder / "alertmanager", alertmanager_config(folder / "alertmanager.yml", url)))
        _, busy = enter(server(folder / "busy.log", *files, "--open-metrics", *limits))
        expected = set(SEVERITIES)
        log = folder / "disk"
        try:
            (enter(mounted(log, "size=4m")) / "ballast").write_bytes(b"\0" * (4_000_000))
        except pytest.skip.Exception:
            expected -= {("VisionOpsLowDisk", "warning"), ("VisionOpsLowDisk", "critical")}
        leave_segment(log)
        store = f"postgresql://nobody@127.0.0.1:{free_port()}/parts"
        kept = ("--prediction-log", str(log), "--prediction-log-store", store, "--prediction-log-images", "1")
        _, empty = enter(server(folder / "empty.log", *kept, "--open-metrics"))
        gateway = enter(pushgateway(folder / "pushgateway"))
        until(lambda: all(get(port, "/health")[0] == 200 for port in (busy, empty)))
        absent = free_port()
        (folder / "control").mkdir()
        control, lose_run = enter(idle_control(folder / "control"))
        controls = [control, free_port()]
        (folder / "console").mkdir()
        console = enter(used_console(folder / "console"))
        own = int(gateway.rpartition(":")[2])
        seeing = prometheus_config(folder / "seeing", [busy, empty, absent], own, manager, controls, [console])
        blind = prometheus_config(folder / "blind", [], free_port(), manager)
        ports = {name: f"127.0.0.1:{port}" for name, port in (("busy", busy), ("empty", empty), ("absent", absent))}
        seeing_port, blind_port = enter(prometheus(seeing.parent, seeing)), enter(prometheus(blind.parent, blind))
        watched = Watched(seeing_port, blind_port, manager, hook, ports, expected)
        enter(clients(busy, control))
        run_pipelines(Pushgateway(gateway), manager)
        seen_well = f'visionops_keys_last_read_successful{{instance="{watched.servers["busy"]}"}} == 1'
        until(lambda: query(watched.prometheus, seen_well))
        until(lambda: query(watched.prometheus, 'visionops_control_runs_total{state="lost"} == 0'))
        lose_run()
        keys.write_text("no key\n")
        yield watched


def wait_for(expected: set[Any], seen: Callable[[], set[Any]]) -> None:
    """Wait until everything expected has been seen.

    Raises:
        AssertionError: Something was not seen; the message names it.
    """
    try:
        until(lambda: seen() >= expected)
    except AssertionError as error:
        raise AssertionError(f"not seen: {expected - seen()}") from error


def test_each_panel_shows_something(watched: Watched):
    # test_modes.py tests panels that need a queue of requests; the server here takes one request at a time.
    expected = {panel for panel in panels() if "visionops_mode_rate" not in panel[1]}
    shown = set[tuple[str, str]]()
    assert expected

    def look() -> set[tuple[str, str]]:
        for panel, expression in expected - shown:
            if shows_something(watched.prometheus, expression, WINDOW):
                shown.add((panel, expression))
        return shown

    wait_for(expected, look)


def test_what_keda_asks_for_is_a_number(watched: Watched):
    keda = KedaScaling(prometheus="http://p:9090", requests_per_second=1, pods='instance!="{pods}",job="visionops"')
    queries = [query for query, _ in prometheus_queries("visionops-cells", keda).values()]
    assert len(queries) == 2
    wait_for(set(queries), lambda: {one for one in queries if len(query(watched.prometheus, one)) == 1})


def test_each_alert_fires_by_its_real_cause(watched: Watched):
    wait_for(watched.expected, watched.fired)


def test_the_receiver_gets_the_most_severe_alert_of_each_kind(watched: Watched):
    # The one without a model is not ready.
    expected = {name for name, _ in watched.expected} - {"VisionOpsNoTraffic"} | {"VisionOpsDecision"}
    wait_for(watched.expected, watched.fired)
    wait_for(expected, lambda: {alert["labels"]["alertname"] for alert in watched.webhook.received})
    received = list(watched.webhook.received)
    of_instance = {(a["labels"].get("instance"), a["labels"]["alertname"]) for a in received}
    assert {name for instance, name in of_instance if instance == watched.servers["absent"]} == {"VisionOpsServerDown"}
    assert (watched.servers["empty"], "VisionOpsNotReady") in of_instance
    assert (watched.servers["empty"], "VisionOpsNoTraffic") not in of_instance
    for alert in received:
        words = alert["annotations"]["summary"] + alert["annotations"]["description"]
        assert "<" not in words, "as a template writes what it does not know"
        assert alert["labels"].get("instance", "") in words
        assert alert["labels"].get("use_case", "") in words


def test_of_what_monitoring_saw_people_hear_once(watched: Watched):
    wait_for({"VisionOpsPerformance"}, lambda: {name for name, _ in told_of(watched, "casting")})
    assert told_of(watched, "steel") == {("VisionOpsDecision", "critical")}
    wait_for({("VisionOpsColumnDrift", "warning")}, lambda: told_of(watched, "pcb"))
    assert told_of(watched, "pcb") == {("VisionOpsColumnDrift", "warning")}
    expected = {
        ("VisionOpsDrift", "critical"),
        ("VisionOpsPerformance", "critical"),
        ("VisionOpsPerformanceLevel", "critical"),
        ("VisionOpsModelAge", "warning"),
        ("VisionOpsMonitoringMissing", "warning"),
    }
    wait_for(expected, lambda: told_of(watched, "casting"))
    assert told_of(watched, "casting") == expected


def told_of(watched: Watched, use_case: str) -> set[tuple[str, str]]:
    """Return name and severity of the alerts at the webhook."""
    labels = [alert["labels"] for alert in list(watched.webhook.received)]
    return {(each["alertname"], each["severity"]) for each in labels if each.get("use_case") == use_case}


def test_a_critical_alert_keeps_its_warning_back(watched: Watched):
    twins = {"VisionOpsErrors", "VisionOpsLatency", "VisionOpsOverload"}
    of_others = {"VisionOpsDrift", "VisionOpsLowDisk", "VisionOpsPerformance", "VisionOpsPerformanceLevel"}
    both = {name for name, severity in SEVERITIES if severity == "warning" and (name, "critical") in SEVERITIES}
    assert both == twins | of_others

    def kept_back() -> set[str]:
        shown = json.loads(get(watched.alertmanager, "/api/v2/alerts")[1])
        busy = [a for a in shown if a["labels"].get("instance") == watched.servers["busy"]]
        assert not [a for a in busy if a["status"]["inhibitedBy"] and a["labels"]["severity"] == "critical"]
        # How full the disk of this machine is, is no matter here.
        return {a["labels"]["alertname"] for a in busy if a["status"]["inhibitedBy"]} - {"VisionOpsLowDisk"}

    wait_for(twins, kept_back)
    assert kept_back() == twins
