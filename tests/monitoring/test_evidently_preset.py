"""`monitoring.drift.method: evidently`: Evidently's own tests, in a report of the usual form."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pydantic import ValidationError

from tests.monitoring.test_drift import column, records, replace
from visionops.monitoring.drift.rendering import render_drift_html
from visionops.monitoring.drift.report import DriftReport, Verdict
from visionops.monitoring.evidently.preset import detect_by_preset
from visionops.monitoring.evidently.report import quietly
from visionops.monitoring.settings import DriftMethod, DriftSettings, MonitoringConfig

BY_EVIDENTLY = DriftSettings(method=DriftMethod.EVIDENTLY)


@pytest.fixture(scope="module", autouse=True)
def draw_nothing():
    from evidently.metrics.column_statistics import ValueDriftCalculation
    from evidently.presets import DataDriftPreset

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ValueDriftCalculation, "_render", lambda *_: [])
        patch.setattr(DataDriftPreset, "render", lambda *_, **__: [])
        yield


def detect(before: pa.Table, after: pa.Table) -> DriftReport:
    return detect_by_preset(before, after, BY_EVIDENTLY, has_summary=False)[0]


@pytest.mark.parametrize(("images", "test"), [(300, "K-S p_value"), (1500, "Wasserstein distance (normed)")])
def test_scores_tests_and_thresholds_are_those_of_the_preset(images, test):
    from evidently import Report
    from evidently.presets import DataDriftPreset

    before, after = records(images), records(200, 1, brightness=0.56)
    report = detect(before, after)
    names = ["feature_brightness", "feature_noise"]
    with quietly():
        frames = [table.select(names).to_pandas().astype(np.float64) for table in (after, before)]
        expected = Report([DataDriftPreset()], include_tests=True).run(*frames).dict()
    metrics = [m for m in expected["metrics"] if "column" in m["config"]]
    assert [m["config"]["column"] for m in metrics] == names
    for metric in metrics:
        found = column(report, metric["config"]["column"])
        assert found.statistic == pytest.approx(metric["value"], abs=1e-12)
        assert found.test == metric["config"]["method"] == test
        assert found.threshold == metric["config"]["threshold"]
        assert (found.p_value is None) == (images > 1000)
    statuses = {t["metric_config"]["params"].get("column"): t["status"].value for t in expected["tests"]}
    assert all(column(report, name).drifted == (statuses[name] == "FAIL") for name in names)


def test_nothing_is_corrected_and_no_change_is_too_small():
    columns = {f"feature_{i}": np.random.default_rng(i).normal(0, 1, 2000) for i in range(40)}
    one = pa.table({name: pa.array(values, pa.float32()) for name, values in columns.items()})
    report = detect(one.slice(0, 900), one.slice(900))
    assert 0 < sum(c.drifted for c in report.columns) < 10
    assert all(c.p_adjusted is None for c in report.columns)


def test_the_report_has_what_policy_alerts_metrics_and_page_read():
    before, after = records(300), records(200, 1, brightness=0.7, embedding=1.0, shares=(0.8, 0.1, 0.1))
    report = detect(before, after)
    assert report.drifted
    assert report.embedding_drifted
    assert 0 < report.share < 1
    assert "brightness rose from 0.5" in report.explain(most=20)
    assert "brightness" in report.names(most=20)
    assert column(report, "embedding").test == "domain classifier"
    assert column(report, "class:crack").before == pytest.approx(0.29, abs=0.05)
    assert DriftReport.model_validate_json(report.model_dump_json()) == report
    page = render_drift_html(report)
    assert "<th>score</th><th>threshold</th>" in page
    assert "Holm" not in page
    assert "K-S p_value" in page


def test_the_embedding_is_judged_by_evidentlys_own_classifier():
    from evidently.legacy.metrics.data_drift.embedding_drift_methods import model

    before, after = records(200), records(150, 1, embedding=0.3)
    frames = [pd.DataFrame(np.stack(table["embedding"].to_pylist()).astype(np.float32)) for table in (after, before)]
    score, is_drift, _ = model(bootstrap=True)(*frames)
    found = column(detect(before, after), "embedding")
    assert found.statistic == pytest.approx(score, abs=1e-12)
    assert found.drifted == is_drift
    assert found.threshold is None  # there is none below 1,000 images of the reference


def test_a_column_without_a_value_is_too_few_to_say():
    before = records(100)
    after = replace(records(60, 1), "feature_noise", [None] * 60)
    found = column(detect(before, after), "feature_noise")
    assert found.verdict is Verdict.TOO_FEW
    assert detect(before, records(0)).share == 0


def test_the_method_is_a_setting_and_ours_unless_it_is_set():
    assert MonitoringConfig().drift.method is DriftMethod.VISIONOPS
    assert MonitoringConfig.model_validate({"drift": {"method": "evidently"}}).drift.method is DriftMethod.EVIDENTLY
    with pytest.raises(ValidationError, match="'visionops' or 'evidently'"):
        DriftSettings.model_validate({"method": "nannyml"})
