"""Dashboard panels of an engine's modes, with a real server under load and a real Prometheus."""

from __future__ import annotations

import http.client
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from tests.helpers.bundles import encode, make_bundle, picture
from tests.helpers.dashboards import panels, shows_something
from tests.helpers.programs import get, prometheus, until
from tests.serving.test_switching import server
from visionops.inference.engines import available_cpus

CLIENTS = 12


@pytest.mark.skipif(available_cpus() < 2, reason="one core has one mode")
def test_the_panels_of_modes_show_what_live_requests_measured(tmp_path: Path) -> None:
    expected = {panel for panel in panels() if "visionops_mode_" in panel[1] or "visionops_streams" in panel[1]}
    assert {name for name, _ in expected} == {"model: Images in parallel", "model: Images per second in each mode"}
    # Large, so that images wait for the engine: with small ones the clients are slower than it.
    bundle, body, stop = make_bundle(tmp_path / "bundle", size=1024).folder, encode(picture([])), threading.Event()
    arguments = ("--bundle", str(bundle), "--name", "cells", "--version", "1", "--open-metrics")

    def client(port: int) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            while not stop.is_set():
                connection.request("POST", "/predict", body, {"Content-Type": "image/png"})
                assert connection.getresponse().read()

    with server(tmp_path / "server.log", *arguments) as (_, port), ThreadPoolExecutor(CLIENTS) as pool:
        until(lambda: get(port, "/health")[0] == 200)
        config = tmp_path / "prometheus.yml"
        job = {"job_name": "visionops", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        config.write_text(yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}))
        running = [pool.submit(client, port) for _ in range(CLIENTS)]
        try:
            (tmp_path / "prometheus").mkdir()
            with prometheus(tmp_path / "prometheus", config) as seen:
                until(lambda: all(shows_something(seen, expression, "10s") for _, expression in expected))
        finally:
            stop.set()
        for each in running:
            each.result(60)
