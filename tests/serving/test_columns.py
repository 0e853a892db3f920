"""Logged user columns and sources of requests; neither can fail a prediction."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers.bundles import encode, make_bundle, picture
from tests.serving.conftest import TestClient, client_of, settings_of
from tests.serving.test_app import metric
from visionops.errors import ConfigError
from visionops.inference.bundle import ModelBundle
from visionops.inference.record_rules import RecordRules
from visionops.monitoring.log_reading import read_log

PNG = {"Content-Type": "image/png"}
COLUMNS = "tests.monitoring.test_columns"
RULES = RecordRules(
    columns={"redness": f"{COLUMNS}:redness", "bad": f"{COLUMNS}:fails"}, source_pattern="^(?P<source>cam[0-9]+)-"
)
BAD = "visionops_prediction_bad_sources_total"


def with_rules(folder: Path, rules: RecordRules) -> Path:
    made = make_bundle(folder)
    return ModelBundle.create(made.folder, made.card.model_copy(update={"records": rules})).folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def client(tmp_path: Path, folder: Path) -> Iterator[TestClient]:
    with client_of(settings_of(with_rules(tmp_path / "bundle", RULES), prediction_log=folder)) as client:
        yield client


def test_a_column_that_fails_is_counted_logged_once_and_missing(client, folder, red_cell, caplog):
    with caplog.at_level(logging.ERROR, "visionops.serving"):
        for _ in range(3):
            assert client.post("/predict", content=red_cell, headers=PNG).status_code == 200
    assert [list(json.loads(text)) for text in read_log(folder)["columns"].to_pylist()] == [["redness"]] * 3
    assert [record.message for record in caplog.records] == ["column_failed"]
    assert metric(client, 'visionops_prediction_column_failures_total{column="bad"}') == 3
    assert metric(client, 'visionops_prediction_column_seconds_count{column="redness"}') == 3
    assert metric(client, 'visionops_prediction_column_seconds_sum{column="redness"}') > 0


def test_a_source_is_the_header_or_what_the_rule_finds(client, folder, red_cell):
    sent = [
        ({"X-Source": "line-3"}, "line-3"),
        ({"X-Source": "line-3", "X-Request-ID": "cam7-1"}, "line-3"),
        ({"X-Request-ID": "cam7-2"}, "cam7"),
        ({"X-Source": "no good", "X-Request-ID": "cam7-3"}, "cam7"),
        ({"X-Request-ID": "part-4"}, None),
    ]
    for headers, _ in sent:
        assert client.post("/predict", content=red_cell, headers=PNG | headers).status_code == 200
    assert client.post("/predict/batch", files=[("files", red_cell)] * 2, headers={"X-Source": "b"}).status_code == 200
    assert read_log(folder)["source"].to_pylist() == [source for _, source in sent] + ["b", "b"]
    assert metric(client, BAD) == 1


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=90).filter(lambda sent: not {0, 10, 13} & {*sent}))
def test_no_source_fails_a_request_or_makes_a_series(client, folder, sent):
    def series() -> set[str]:
        return {line.rpartition(" ")[0] for line in client.get("/metrics").text.splitlines()}

    client.post("/predict", content=encode(picture()), headers=PNG)  # whatever an answer makes is there
    series()  # and what a scrape makes
    before = series()
    answer = client.post("/predict", content=encode(picture()), headers=[*PNG.items(), (b"X-Source", sent)])
    assert answer.status_code == 200
    assert series() == before
    kept = read_log(folder)["source"].to_pylist()[-1]
    assert kept is None or kept.encode() == sent


def test_without_rules_and_header_a_line_is_as_short_as_it_was(tmp_path, bundle, folder, red_cell):
    with client_of(settings_of(bundle, prediction_log=folder)) as client:
        assert client.post("/predict", content=red_cell, headers=PNG).status_code == 200
        lines = [json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    assert len(lines) == 1
    assert not {"source", "columns"} & lines[0].keys()


def test_a_server_that_cannot_import_a_column_does_not_start(tmp_path, folder):
    bundle = with_rules(tmp_path / "bundle", RecordRules(columns={"glare": "no_such_plant.columns:glare"}))
    with pytest.raises(
        ConfigError, match=r"^monitoring\.columns\.glare: no_such_plant\.columns:glare: cannot be impor"
    ):
        client_of(settings_of(bundle, prediction_log=folder))
    with client_of(settings_of(bundle)) as client:  # nothing is remembered, so nothing is missing
        assert client.get("/ready").status_code == 200


def test_the_command_says_so_in_one_line(tmp_path):
    bundle = with_rules(tmp_path / "bundle", RecordRules(columns={"glare": "no_such_plant.columns:glare"}))
    command = [sys.executable, "-m", "deploy.serving", "--bundle", str(bundle), "--port", "0"]
    ended = subprocess.run(
        [*command, "--prediction-log", str(tmp_path / "log")], capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: monitoring.columns.glare: no_such_plant.columns:glare: cannot be imported (")
    assert ended.stderr.count("\n") == 1
