"""With sources, too, Evidently gives our p-values, and its report has the source beside the column."""

from __future__ import annotations

import pyarrow as pa
import pytest

from tests.monitoring.test_evidently import draw_nothing, failed  # noqa: F401 - a fixture of the module
from tests.monitoring.test_sources import line
from visionops.monitoring.drift.detection import detect_drift
from visionops.monitoring.evidently.comparison import compare_with_evidently
from visionops.monitoring.evidently.frames import frame_name
from visionops.monitoring.evidently.preset import detect_by_preset
from visionops.monitoring.evidently.report import drift_scores, run_report
from visionops.monitoring.settings import DriftMethod, DriftSettings

SETTINGS = DriftSettings(permutations=199)


def with_texts(table: pa.Table, texts: list[str]) -> pa.Table:
    shift = pa.array([texts[n % len(texts)] for n in range(len(table))], pa.string())
    return table.append_column("column:shift", shift)


@pytest.fixture(scope="module")
def pair() -> tuple[pa.Table, pa.Table]:
    """Return two cameras of which one gets darker; their mix changes, and there is a text column."""
    return with_texts(line(60, 60, 0), ["day", "night"]), with_texts(line(70, 35, 1, bright_at=0.6), ["day"])


@pytest.mark.parametrize("is_known", [True, False])
def test_evidently_gives_the_p_values_of_ours_by_source(pair, is_known):
    before, after = pair
    history = None if is_known else before
    reference = before if is_known else before.drop_columns(["source"])
    report = detect_drift(reference, after, SETTINGS, history)
    snapshot = run_report(reference, after, report, history=history, has_summary=False)
    ours = {frame_name(c): c.p_value for c in report.columns if c.p_value is not None}
    theirs = drift_scores(snapshot)
    assert theirs.keys() == ours.keys()
    assert all(abs(theirs[name] - p) <= 1e-12 for name, p in ours.items())
    assert failed(snapshot) == {frame_name(c) for c in report.columns if c.drifted}
    assert "feature_brightness [cam-2]" in failed(snapshot)
    assert {"source", "column:shift [cam-1]"} <= theirs.keys()


def test_by_its_own_tests_it_judges_each_source_apart(pair):
    settings = SETTINGS.model_copy(update={"method": DriftMethod.EVIDENTLY})
    report, _ = detect_by_preset(*pair, settings, has_summary=False)
    verdicts = {(c.source, c.name): c.drifted for c in report.columns}
    assert verdicts["cam-2", "feature_brightness"]
    assert not verdicts["cam-1", "feature_brightness"]
    assert [source.name for source in report.sources] == ["cam-1", "cam-2"]


def test_the_page_names_the_source(pair, tmp_path):
    findings = compare_with_evidently(*pair, SETTINGS, "made-up", str(tmp_path / "workspace"))
    assert findings.problem == ""
    assert "cam-2: brightness fell" in findings.page
    assert "feature_brightness [cam-2]" in findings.page
