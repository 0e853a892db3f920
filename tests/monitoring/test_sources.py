"""Traffic by source: each source against its own, the mix as one column, and no change without sources."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.monitoring.test_drift import records
from visionops.monitoring.drift.detection import detect_drift
from visionops.monitoring.drift.rendering import render_drift_html
from visionops.monitoring.drift.report import OTHER_SOURCES, Baseline, DriftReport
from visionops.monitoring.drift.strata import MOST_SOURCES, sources_without_reference, stratify
from visionops.monitoring.metrics import _labels
from visionops.monitoring.settings import DriftSettings, MonitoringConfig
from visionops.monitoring.sources import is_source, source_of

QUICK = DriftSettings(permutations=1999)


def camera(name: str | None, n: int, seed: int, **how) -> pa.Table:
    return records(n, seed, **how).append_column("source", pa.array([name] * n, pa.string()))


def line(dark: int, bright: int, seed: int, *, bright_at: float = 0.8) -> pa.Table:
    """Return images of two cameras, of which one is brighter and nearer."""
    return pa.concat_tables(
        [camera("cam-1", dark, seed), camera("cam-2", bright, seed + 1000, brightness=bright_at, area=0.2)]
    )


def mixes(report) -> list[bool]:
    return [column.drifted for column in report.columns if column.name == "source"]


def test_a_new_mix_is_one_column_and_no_change_of_a_camera():
    reference = line(120, 120, 0)
    named, moved = 0, 0
    for seed in range(1, 9):
        report = detect_drift(reference, line(180, 40, seed), QUICK)
        named += bool(report.drifted_sources)
        moved += mixes(report) == [True]
    assert (named, moved) == (0, 8)
    pooled = detect_drift(*(t.drop_columns(["source"]) for t in (reference, line(180, 40, 1))), QUICK)
    assert {"feature_brightness", "areas"} <= {column.name for column in pooled.columns if column.drifted}


def test_the_camera_that_changed_is_named_everywhere():
    report = detect_drift(line(120, 120, 0), line(100, 100, 1, bright_at=0.6), QUICK)
    assert report.drifted_sources == ("cam-2",)
    assert mixes(report) == [False]
    assert report.names() == "cam-2: brightness"
    assert "2 sources apart: cam-2: brightness fell from 0.785" in report.explain()
    page = render_drift_html(report)
    assert "<td>cam-2</td>" in page
    assert "cam-1, 100 images against 120 of its own images in the reference; cam-2" in page
    labels = [_labels(column, report) for column in report.columns]
    assert {dict(label)["source"] for label in labels} == {"cam-1", "cam-2", ""}
    assert DriftReport.model_validate_json(report.model_dump_json()) == report


def test_a_source_that_the_reference_does_not_know_is_compared_with_its_earlier_traffic():
    reference = records(200, 7).append_column("source", pa.nulls(200, pa.string()))
    window, history = line(100, 100, 1), line(150, 150, 2)
    assert sources_without_reference(reference, window, QUICK)
    report = detect_drift(reference, window, QUICK, history)
    assert {source.against for source in report.sources} == {Baseline.HISTORY}
    assert not report.drifted
    alone = detect_drift(reference, window, QUICK)
    assert {source.against for source in alone.sources} == {Baseline.REFERENCE}
    assert alone.drifted_sources == ("cam-2",)
    assert not sources_without_reference(line(40, 40, 0), window, QUICK)


def test_few_images_of_a_source_are_judged_with_the_other_few():
    window = pa.concat_tables([camera("cam-1", 100, 1), camera("x", 20, 2), camera("y", 15, 3), camera(None, 5, 4)])
    report = detect_drift(camera("cam-1", 150, 0), window, QUICK)
    assert [(source.name, source.current_images) for source in report.sources] == [("cam-1", 100), (OTHER_SOURCES, 40)]
    fewer = pa.concat_tables([camera("cam-1", 100, 1), camera("x", 20, 2)])
    report = detect_drift(camera("cam-1", 150, 0), fewer, QUICK)
    assert [source.name for source in report.sources] == ["cam-1"]
    assert report.explain().endswith("Not judged: 20 images of sources with fewer than 30 each.")


def test_a_window_of_too_few_images_is_compared_whole():
    report = detect_drift(line(60, 60, 0), camera("cam-1", 12, 1), QUICK)
    assert report.sources == ()
    assert report.explain().startswith("Too few to say")


def test_who_sends_a_thousand_names_makes_no_thousand_tests():
    names = [f"s{n:04}" for n in range(1000) for _ in range(3)] + [f"big{n:02}" for n in range(40) for _ in range(40)]
    window = records(len(names), 1).append_column("source", pa.array(names, pa.string()))
    strata = stratify(records(300, 0), window, QUICK)
    assert len(strata.parts) == MOST_SOURCES + 1
    assert sum(len(part.after) for part in strata.parts) == len(names)
    known = stratify(window, window, QUICK)
    assert len({pattern for side in known.mix for pattern in side}) <= 2 * MOST_SOURCES + 1


def test_without_sources_a_report_is_what_it_was():
    reference, window = records(200, 0), records(100, 1, brightness=0.6)
    plain = detect_drift(reference, window, QUICK)
    nothing = [t.append_column("source", pa.nulls(len(t), pa.string())) for t in (reference, window)]
    unnamed = detect_drift(*nothing, QUICK)
    one_side = detect_drift(line(100, 100, 0), records(100, 1), QUICK)
    assert unnamed.model_dump_json() == plain.model_dump_json()
    assert not {"source", "sources", "left_out"} & {
        *json.loads(plain.model_dump_json()),
        *plain.columns[0].model_dump(),
    }
    assert one_side.sources == ()
    assert next(_labels(column, plain) for column in plain.columns) == (
        ("column", "feature_brightness"),
        ("kind", "number"),
    )


def test_alarms_over_all_sources_are_no_more_than_alpha_allows():
    reference = line(100, 100, 0)
    alpha = QUICK.model_copy(update={"alpha": 0.05})
    assert (
        sum(detect_drift(reference, line(60, 60, seed), alpha).drifted for seed in range(1, 21)) <= 4
    )  # 1 is expected


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "c", "", None]), min_size=1, max_size=150), st.integers(0, 3))
def test_each_image_is_in_one_part_or_left_out(names, seed):
    window = records(len(names), seed).append_column("source", pa.array(names, pa.string()))
    strata = stratify(line(60, 60, 0), window, QUICK.model_copy(update={"min_images": 10}))
    rows = np.concatenate([part.after for part in strata.parts])
    assert len(np.unique(rows)) == len(rows) == len(names) - strata.left_out
    assert all((part.before < len(strata.reference)).all() for part in strata.parts)


# ---- names


@pytest.mark.parametrize("name", ["cam-1", "A", "0", "line_3.left", "x" * 64])
def test_names_that_can_be_sources(name):
    assert is_source(name)


@pytest.mark.parametrize(
    "name", ["", "-x", ".", "(other)", "a b", "a,b", "cam\n", "kamerä", "x" * 65, '"', "<b>", "\0"]
)
def test_names_that_cannot(name):
    assert not is_source(name)


@given(st.text())
def test_a_rule_gives_a_source_or_nothing(text):
    for pattern in ("^(?P<source>[^/]+)/", "(?P<source>.*)", "(?P<source>x)?", ""):
        found = source_of(pattern, text)
        assert found == "" or is_source(found)


def test_a_rule_reads_the_source_off_a_name():
    assert source_of("^(?P<source>cam[0-9]+)[/-]", "cam12/part.png") == "cam12"
    assert source_of("^(?P<source>cam[0-9]+)[/-]", "cam3-0017/2") == "cam3"
    assert source_of("^(?P<source>cam[0-9]+)[/-]", "other/part.png") == ""


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(", r"is not a regular expression \(missing \)"), ("^cam", r"has no group named source, such as")],
)
def test_a_rule_that_cannot_be_one_is_refused(pattern, message):
    with pytest.raises(ValidationError, match=message):
        MonitoringConfig(source_pattern=pattern)
