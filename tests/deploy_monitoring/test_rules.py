"""Check the files of Prometheus and Alertmanager with their own tools."""

from __future__ import annotations

import json
import re
import string
import tempfile
from pathlib import Path

import pytest
import yaml

from deploy.console.metrics import ConsoleMetrics
from deploy.control.metrics import ControlMetrics
from deploy.pushgateway import USERNAME
from deploy.serving.metrics import Metrics
from deploy.serving.models.feedback import open_feedback
from deploy.serving.models.log_metrics import LogMetrics
from deploy.serving.models.model_metrics import ModelMetrics
from deploy.serving.settings import Settings
from stacks.alerter import AlertmanagerParameters
from tests.conftest import ROOT
from tests.helpers.programs import MONITORING, RULES, run
from visionops.alerts import DECISION
from visionops.canary.alerts import RETURNED
from visionops.monitoring.curves import EPOCH_METRICS
from visionops.monitoring.images import IMAGE_OUTCOMES
from visionops.monitoring.log import OUTCOMES
from visionops.monitoring.metrics import METRICS

CASES = Path(__file__).with_name("rules_test.yml")
METRIC = re.compile(r"\b(?:visionops|process)_[a-z_]+\b")
NAMES = ("prometheus", "secured")
SUFFIX = re.compile(r"_(bucket|sum|count)$")


def alerts() -> list[dict]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def known_metrics() -> set[str]:
    """Return the metrics of servers, by the source lines that name them, and those that pipelines push."""
    metrics = Metrics()
    ModelMetrics(metrics)
    log = LogMetrics(metrics, OUTCOMES, lambda: (1, 2))
    log.watch_unshipped(lambda: 0)
    log.keep_images(IMAGE_OUTCOMES)
    with tempfile.TemporaryDirectory() as folder:
        open_feedback(Settings(bundle=folder, prediction_log=folder), metrics).close()
    shown = b"".join(one.text() for one in (metrics, ControlMetrics(), ConsoleMetrics())).decode()
    return METRICS.keys() | EPOCH_METRICS.keys() | set(re.findall(r"^# HELP (\S+)", shown, re.MULTILINE))


@pytest.mark.parametrize("name", ["prometheus.yml", "secured.yml"])
def test_prometheus_takes_our_configuration(name: str):
    assert "SUCCESS" in run("promtool", "check", "config", MONITORING / "prometheus" / name)


def test_the_secured_configuration_differs_in_how_the_pushgateway_is_read():
    plain, secured = (yaml.safe_load((MONITORING / "prometheus" / f"{n}.yml").read_text()) for n in NAMES)
    job = secured["scrape_configs"][-1]
    assert [job.pop("scheme"), job.pop("basic_auth")["username"], job.pop("tls_config")] == [
        "https",
        USERNAME,
        {"ca_file": "access/ca.crt"},
    ]
    assert secured == plain


def test_the_rules_do_what_their_cases_say():
    assert "SUCCESS" in run("promtool", "test", "rules", CASES)


def test_each_alert_has_a_case_in_which_it_fires():
    fired = set()
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        for expectation in case["promql_expr_test"]:
            for sample in expectation.get("exp_samples", []):
                fired.add(tuple(re.findall(r'(?:alertname|severity)="(\w+)"', sample["labels"])))
    assert {(rule["alert"], rule["labels"]["severity"]) for rule in alerts()} == fired - {()}


def test_alertmanager_takes_our_configuration_once_it_has_a_url(tmp_path: Path):
    text = (MONITORING / "alertmanager" / "alertmanager.yml").read_text()
    filled = tmp_path / "alertmanager.yml"
    filled.write_text(string.Template(text).substitute(VISIONOPS_ALERT_WEBHOOK="http://127.0.0.1:1/alerts"))
    assert "SUCCESS" in run("amtool", "check-config", filled)


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict):
    assert rule["labels"]["severity"] in ("warning", "critical")
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert rule["alert"] in headings
    assert anchor == rule["alert"].lower(), "as the heading's anchor is"
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"].endswith(".")


def test_the_page_has_no_alert_that_does_not_exist():
    headings = re.findall(r"^#+ (VisionOps\w+)$", (ROOT / "docs/how-to/alerts.md").read_text(), re.MULTILINE)
    told_by_pipelines = {DECISION, RETURNED, AlertmanagerParameters().name}
    assert sorted(headings) == sorted({rule["alert"] for rule in alerts()} | told_by_pipelines)


def test_each_alert_that_keeps_another_back_exists():
    rules = yaml.safe_load((MONITORING / "alertmanager" / "alertmanager.yml").read_text())["inhibit_rules"]
    matchers = [m for rule in rules for m in rule["source_matchers"] + rule["target_matchers"]]
    named = [m.partition("=")[2].strip('~"') for m in matchers if m.startswith("alertname=")]
    assert named
    known = {rule["alert"] for rule in alerts()} | {DECISION}
    for name in named:
        head, _, choice = name.partition("(")
        assert name == "VisionOps.+" or {head + end for end in choice.rstrip(")").split("|")} <= known


@pytest.mark.parametrize("path", [*sorted(MONITORING.rglob("*.json")), RULES], ids=lambda path: path.name)
def test_each_metric_that_is_named_exists(path: Path):
    known = known_metrics()
    assert "visionops_requests_total" in known
    recorded_or_job = re.compile(r"\binstance(_\w+)?:[\w:]+|\bjob=~?\W+[\w|]+")
    named = set(METRIC.findall(recorded_or_job.sub("", path.read_text())))
    assert named
    assert {name for name in named if name not in known and SUFFIX.sub("", name) not in known} == set()


def test_dashboards_ask_the_data_source_that_is_provisioned():
    grafana = MONITORING / "grafana"
    sources = yaml.safe_load((grafana / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    boards = [json.loads(path.read_text()) for path in sorted((grafana / "dashboards").glob("*.json"))]
    assert len({board["uid"] for board in boards}) == len(boards) > 0
    for board in boards:
        panels = board["panels"]
        assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
        parts = [*panels, *board["templating"]["list"], *(target for panel in panels for target in panel["targets"])]
        assert {part["datasource"]["uid"] for part in parts} == {source["uid"] for source in sources}
