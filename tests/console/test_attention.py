"""Needs on the overview page, from given states."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deploy.console.attention import newest_run, of_gate, of_monitoring, of_queue, of_run
from deploy.console.endpoints import check_endpoint
from deploy.console.pages.words import age, ago, clock, duration, figure, interval
from visionops.review.ports import Stats
from visionops.review.states import State
from visionops.runs.states import Kind, Run, RunRequest, RunState, advance

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
QUIET = Stats({State.PENDING: 3, State.CLAIMED: 1}, {}, {}, 0, NOW - timedelta(hours=1), 0)


def order(state: RunState, queued: datetime = NOW) -> Run:
    found = Run("0" * 32, RunRequest(Kind.RETRAIN, "steel"), "anna", queued)
    if state is not RunState.QUEUED:
        found = advance(found, RunState.RUNNING, queued)
    return found if state in {RunState.QUEUED, RunState.RUNNING} else advance(found, state, queued)


def run(started: datetime, state: str = "completed") -> dict[str, Any]:
    return {"name": "training-1", "pipeline": "training", "state": state, "started": started.isoformat()}


def test_a_short_young_queue_is_not_a_need():
    assert of_queue("steel", QUIET, NOW) == []
    assert of_queue("steel", None, NOW) == []


def test_a_long_or_old_queue_and_a_disagreement_do():
    (long,) = of_queue("steel", dataclasses.replace(QUIET, states={State.PENDING: 99, State.CLAIMED: 1}), NOW)
    assert (long.text, long.link) == ("steel: 100 images are waiting for review", "/review?use_case=steel")
    old = of_queue("steel", dataclasses.replace(QUIET, oldest_pending=NOW - timedelta(days=2), third=2), NOW)
    assert [need.text for need in old] == [
        "steel: 4 images are waiting for review, the oldest for 2 days",
        "steel: 2 images wait for a third opinion, because two disagree",
    ]


@pytest.mark.parametrize(
    ("promoted", "champion", "is_named"), [(False, "1", True), (True, "1", False), (False, "2", False)]
)
def test_the_gate_refused_the_newest_version(promoted: bool, champion: str, is_named: bool):
    model = {"champion": champion, "versions": [{"version": "2", "promoted_by_gate": promoted}]}
    assert bool(of_gate("steel", model)) is is_named
    assert of_gate("steel", {"champion": None, "versions": []}) is None


def test_monitoring_asks_for_a_person():
    assert of_monitoring("steel", None) is None
    assert of_monitoring("steel", {"decision": {"action": "nothing", "sentence": "-"}}) is None
    need = of_monitoring("steel", {"decision": {"action": "alert", "sentence": "73% drifted"}})
    assert need is not None
    assert (need.text, need.is_urgent) == ("steel: monitoring asks for a person: 73% drifted", True)


def test_the_last_run_is_that_of_the_queue_or_of_zenml_whichever_is_later():
    before, after = run(NOW - timedelta(hours=1)), run(NOW + timedelta(hours=1), "failed")
    assert newest_run([], None) == ("", "", "")
    assert newest_run([order(RunState.LOST)], before) == ("lost", "retrain", f"/training?order={'0' * 32}")
    assert newest_run([order(RunState.LOST)], after) == ("failed", "training", "/training?run=training-1")
    assert of_run("steel", [order(RunState.SUCCEEDED)], before) is None
    for runs, other in (([order(RunState.LOST)], before), ([], after)):
        need = of_run("steel", runs, other)
        assert need is not None
        assert need.is_urgent


def test_an_endpoint_that_does_not_answer_is_silent():
    row = {"version": "1", "url": "http://127.0.0.1:9", "trouble": "", "state": "active"}
    silent = check_endpoint(row)
    assert (silent.state, silent.served) == ("silent", "version 1")
    assert silent.need("steel") is not None
    assert check_endpoint(row | {"url": "file:///etc/passwd"}).state == "silent"
    assert check_endpoint(None).need("steel") is None


def test_times_and_figures_are_short():
    assert [duration(seconds) for seconds in (None, 5, 61, 7300, 90_000, 200_000)] == [
        "-",
        "5 s",
        "1 min",
        "2 h",
        "1 day",
        "2 days",
    ]
    assert age((NOW - timedelta(minutes=3)).isoformat(), NOW) == "3 min"
    assert (ago(None, NOW), ago(NOW + timedelta(seconds=9), NOW)) == ("-", "0 s ago")
    assert clock("2026-03-02T13:00:30+01:00") == "2026-03-02 12:00"
    assert [figure(value) for value in (None, 0.12345, 3, "f32", True)] == ["-", "0.123", "3", "f32", "True"]
    assert (interval((0.1, 0.25)), interval(None), interval([None, 0.2])) == ("0.100 to 0.250", "", "")
