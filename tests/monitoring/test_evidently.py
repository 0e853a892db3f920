"""Evidently runs our tests, gives our verdicts, and its page and snapshot have the same values."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import cramervonmises_2samp, fisher_exact

from tests.monitoring.test_drift import column, drifted, records, replace
from visionops.monitoring.drift.detection import detect_drift, holm_bound
from visionops.monitoring.drift.report import DriftReport, Verdict
from visionops.monitoring.evidently.frames import safe_name
from visionops.monitoring.evidently.page import render_both
from visionops.monitoring.evidently.report import drift_scores, quietly, run_report
from visionops.monitoring.evidently.stattests import METHODS, register_tests
from visionops.monitoring.settings import DriftSettings

QUICK = DriftSettings(permutations=499)


@pytest.fixture(scope="module", autouse=True)
def draw_nothing():
    """Disable plots, which take most of the time; `test_the_page_…` draws them."""
    from evidently.metrics.column_statistics import ValueDriftCalculation

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ValueDriftCalculation, "_render", lambda *_: [])
        yield


def failed(snapshot) -> set[str]:
    """Return the columns that Evidently calls drifted."""
    return {
        test["metric_config"]["params"]["column"]
        for test in snapshot.dict()["tests"]
        if test["status"].value == "FAIL" and test["metric_config"]["params"]["type"].endswith(":ValueDrift")
    }


def count(snapshot) -> dict[str, float]:
    metrics = snapshot.dict()["metrics"]
    return next(m["value"] for m in metrics if m["config"]["type"].endswith(":DriftedColumnsCount"))


@st.composite
def tables(draw) -> tuple[pa.Table, pa.Table]:
    """Return two tables of records: ties, missing and infinite numbers, constants, images without boxes, no vectors."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    classes = draw(st.sampled_from([["a"], ["a", "b"], ["b=yes", "b=no", "ä<c>"]]))
    shift = draw(st.floats(0, 2))
    digits = draw(st.integers(0, 6))
    missing = draw(st.sampled_from([0, 0, 0.2]))
    has_vectors = draw(st.booleans())

    def side(moved: float) -> pa.Table:
        n = draw(st.integers(25, 90))
        counts = rng.poisson(draw(st.sampled_from([0.5, 2])), n)
        labels = [rng.choice(classes, k).tolist() for k in counts]
        noise = np.round(rng.normal(moved, 1, n), digits)
        noise[rng.random(n) < missing] = draw(st.sampled_from([np.nan, np.inf]))
        columns = {
            "feature_noise": pa.array(noise, pa.float32()),
            "feature_width": pa.array(np.full(n, 640.0), pa.float32()),
            "count": pa.array(counts, pa.int32()),
            "labels": pa.array(labels, pa.list_(pa.string())),
            "confidences": pa.array([rng.uniform(0, 1, k).tolist() for k in counts], pa.list_(pa.float32())),
        }
        if has_vectors:
            vectors = rng.normal(moved, 1, (n, 3))
            columns["embedding"] = pa.array(
                [None if rng.random() < missing else row for row in vectors.tolist()], pa.list_(pa.float32())
            )
        return pa.table(columns)

    return side(0), side(shift)


@pytest.mark.slow
@settings(deadline=None, max_examples=100)
@given(tables(), st.integers(0, 3))
def test_evidently_gives_the_p_values_of_ours_on_any_tables(pair, seed):
    report = detect_drift(*pair, DriftSettings(permutations=199, seed=seed))
    snapshot = run_report(*pair, report, has_summary=False)
    ours = {safe_name(c.name): c.p_value for c in report.columns if c.p_value is not None}
    theirs = drift_scores(snapshot)
    assert theirs.keys() == ours.keys()
    assert all(abs(theirs[name] - p) <= 1e-12 for name, p in ours.items())
    assert failed(snapshot) == {safe_name(name) for name in drifted(report)}
    if ours:
        assert count(snapshot)["count"] == len(drifted(report))


def test_a_p_value_is_that_of_scipy():
    distinct = np.random.default_rng(0).permutation(500) / 500
    before = replace(records(300), "feature_noise", distinct[:300])
    after = replace(records(200, 1, shares=(0.8, 0.1, 0.1)), "feature_noise", distinct[300:])
    scores = drift_scores(run_report(before, after, detect_drift(before, after, QUICK), has_summary=False))
    noise = [table["feature_noise"].to_numpy().astype(np.float64) for table in (before, after)]
    assert scores["feature_noise"] == pytest.approx(cramervonmises_2samp(*noise, method="asymptotic").pvalue, abs=1e-12)
    shown = [sum("crack" in row for row in table["labels"].to_pylist()) for table in (before, after)]
    expected = fisher_exact([shown, [300 - shown[0], 200 - shown[1]]]).pvalue
    assert scores["class:crack"] == pytest.approx(expected, abs=1e-12)


def test_evidently_corrects_as_we_do_and_ignores_what_is_too_small_to_matter():
    before, after = records(300), records(200, 1, brightness=0.6, shares=(0.8, 0.1, 0.1))
    report = detect_drift(before, after, QUICK)
    snapshot = run_report(before, after, report, has_summary=False)
    assert (
        failed(snapshot)
        == drifted(report)
        == {"feature_brightness", "class:crack", "class:dent", "class:pit", "labels"}
    )
    assert count(snapshot) == {"count": 5, "share": pytest.approx(report.share)}
    strict = QUICK.model_copy(update={"min_gap": 1.0, "min_share_change": 3.1})
    report = detect_drift(before, after, strict)
    snapshot = run_report(before, after, report, has_summary=False)
    assert column(report, "feature_brightness").p_adjusted < 0.01
    assert failed(snapshot) == drifted(report) == set()
    assert count(snapshot)["count"] == 0


def test_the_bound_is_what_holm_leaves_of_alpha():
    report = detect_drift(records(300), records(200, 1, brightness=0.6), QUICK)
    tested = [c for c in report.columns if c.p_value is not None]
    bound = holm_bound(report.columns, 0.01)
    assert bound == 0.01 / (len(tested) - sum(c.p_adjusted <= 0.01 for c in tested))
    assert all((c.p_value <= bound) == (c.p_adjusted <= 0.01) for c in tested)
    assert holm_bound((), 0.01) == 0.01


def test_what_is_too_few_to_say_has_no_test():
    before, after = records(300), records(40, 1, boxes=0.3)
    report = detect_drift(before, after, QUICK)
    few = {c.name for c in report.columns if c.verdict is Verdict.TOO_FEW}
    assert "confidences" in few
    assert not few & drift_scores(run_report(before, after, report, has_summary=False)).keys()
    nothing = records(0)
    report = detect_drift(before, nothing, QUICK)
    snapshot = run_report(before, nothing, report)
    assert drift_scores(snapshot) == {}
    assert "Too few to say" in render_both(report, snapshot)


def test_the_page_shows_ours_first_then_evidently_and_loads_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    hostile = "</script><script>alert(1)</script>"
    before = replace(records(120), "labels", [[hostile]] * 60 + [["dent"]] * 60)
    after = replace(records(90, 1, brightness=0.7), "labels", [[hostile]] * 90)
    report = detect_drift(before, after, QUICK)
    page = render_both(report, run_report(before, after, report))
    assert report.explain().split("; ")[0].split(": ")[1] in page
    assert (
        page.index('<main class="drift">') < page.index('<div id="root_metric_') < page.index("drawDashboard(metric_")
    )
    assert "alert(1)</script>" not in page
    assert page.count("<body>") == 1
    outside = re.findall(r"<(?:script|img|iframe|audio|video|source|embed)\b[^>]*\bsrc=[^>]*>|<link\b[^>]*>", page)
    assert outside == []
    styles = "".join(re.findall(r"<style>.*?</style>", page, re.DOTALL))
    assert "@import" not in styles
    assert all(address.startswith("data:") for address in re.findall(r"url\(['\"]?([^)]*)", styles))
    assert os.environ["DO_NOT_TRACK"]
    assert len(page.encode()) < 5_000_000


def test_a_test_of_ours_works_in_any_report_of_evidently():
    from evidently import Report
    from evidently.metrics import ValueDrift

    register_tests()
    rng = np.random.default_rng(0)
    before, after = (pd.DataFrame({"noise": rng.normal(mean, 1, 200)}) for mean in (0.0, 1.0))
    with quietly():
        snapshot = Report([ValueDrift(column="noise", method=METHODS["Cramér-von Mises"])], include_tests=True).run(
            after, before
        )
    expected = cramervonmises_2samp(before["noise"], after["noise"], method="asymptotic").pvalue
    assert drift_scores(snapshot)["noise"] == pytest.approx(expected, abs=1e-12)
    assert failed(snapshot) == {"noise"}


def test_a_report_from_before_there_were_snapshots_is_still_read():
    report = detect_drift(records(100), records(60, 1), QUICK)
    old = report.model_dump(mode="json", exclude={"snapshot": True, "settings": {"method"}})
    for one in old["columns"]:
        del one["threshold"]
    assert DriftReport.model_validate(old) == report


def test_the_policy_the_metrics_and_the_server_never_import_evidently():
    monitoring = ", ".join(f"visionops.monitoring.{name}" for name in ("policy", "metrics", "drift.rendering", "log"))
    code = f"import sys, deploy.serving.app, {monitoring}; sys.exit('evidently' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
