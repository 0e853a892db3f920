"""Decisions on a candidate from the servers' reports."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from visionops.canary.decision import Action, decide, error_interval
from visionops.inference.release_report import (
    Agreement,
    ArmFigures,
    ReleaseReport,
    ReleaseReports,
    bucket_of,
    merge_arms,
)
from visionops.inference.release_settings import ReleaseConfig

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
RELEASE = ReleaseConfig(
    strategy="canary", hold_minutes=60, max_error_rate=0.02, max_latency_ratio=2, min_agreement=0.9, min_requests=50
)


def arm(answered: int, failed: int = 0, ms: float = 5) -> ArmFigures:
    return ArmFigures(answered=answered, failed=failed, durations={bucket_of(ms / 1000): answered} if answered else {})


def agreed(images: int, mean: float) -> Agreement:
    """Return agreement of images that agree completely or not at all."""
    return Agreement(images=images, total=images * mean, squares=images * mean)


GOOD: dict[str, Any] = {"champion": arm(900), "candidate": arm(100), "agreement": agreed(100, 0.97)}


def reports(*, instance: str = "one", expected: int = 1, **changes: Any) -> ReleaseReports:
    found = GOOD | changes
    report = ReleaseReport(
        instance=instance,
        name="cells",
        champion="1",
        candidate=found.get("version", "2"),
        figures={"champion": found["champion"], "candidate": found["candidate"]},
        agreement=found["agreement"],
        returned=found.get("returned", ""),
        problem=found.get("problem", ""),
    )
    return ReleaseReports(reports=(report,), expected=expected)


def verdict(found: ReleaseReports, minutes: float = 60, release: ReleaseConfig = RELEASE) -> tuple[Action, str]:
    decided = decide(release, "2", found, SINCE, SINCE + timedelta(minutes=minutes))
    return decided.action, decided.reason


def test_who_kept_all_bounds_to_the_end_is_promoted():
    action, reason = verdict(reports())
    assert action is Action.PROMOTE
    assert reason.startswith("kept its bounds for 60 minutes: failed on 0 of 100 images, took ")
    assert "agreed by 0.970 (0.936 to 1.000) on 100 images" in reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"candidate": arm(45, failed=10)}, "failed on 10 of 55 images (10.2% to 30.3%), over max_error_rate of 2.0%"),
        ({"candidate": arm(60, ms=25)}, "took 2"),
        ({"agreement": agreed(60, 0.5)}, "agreed with the champion by 0.500 (0.372 to 0.628) on 60 images, below"),
        ({"returned": "canary version 2 failed"}, "canary version 2 failed"),
        ({"problem": "sha256 differs"}, "sha256 differs"),
    ],
)
def test_who_breaks_a_bound_beyond_chance_goes_back_at_once(changes: dict[str, Any], reason: str):
    action, why = verdict(reports(**changes), minutes=1)
    assert action is Action.RETURN
    assert why.startswith(reason)


@pytest.mark.parametrize(
    "changes",
    [
        {"candidate": arm(49, failed=1)},  # 2 %, at the bound
        {"candidate": arm(57, failed=3)},  # 5 %, and 1.7 % is not excluded
        {"agreement": agreed(60, 0.85)},
        {"candidate": arm(30, failed=10)},  # too few images
        {"candidate": arm(20, ms=50), "champion": arm(20)},
    ],
)
def test_what_may_be_chance_is_held_on_until_the_end(changes: dict[str, Any]):
    assert verdict(reports(**changes), minutes=59)[0] is Action.HOLD


def test_what_was_not_certain_must_keep_the_bound_at_the_end():
    assert verdict(reports(candidate=arm(57, failed=3)))[0] is Action.RETURN
    assert verdict(reports(agreement=agreed(60, 0.85)))[0] is Action.RETURN


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"candidate": arm(49)}, "49 images of 50 that it must answer"),
        ({"agreement": agreed(49, 1)}, "49 images of 50 that must be compared"),
        ({"champion": arm(10)}, "10 images of 50 that the champion must answer"),
        ({"expected": 3}, "1 of 3 servers reported"),
        ({"version": "3"}, "0 of 1 server reported"),
    ],
)
def test_too_little_decides_nothing_however_long_it_takes(changes: dict[str, Any], reason: str):
    action, why = verdict(reports(**changes), minutes=10_000)
    assert action is Action.HOLD
    assert why.startswith(reason)


def test_a_canary_that_answers_all_needs_no_champion_to_compare_with():
    alone = RELEASE.model_copy(update={"share": 1.0, "min_agreement": None})
    assert verdict(reports(champion=arm(0), agreement=Agreement()), release=alone)[0] is Action.PROMOTE


def test_servers_count_together_and_one_return_counts_for_all():
    bad = reports(instance="two", returned="canary version 2 took 9 ms").reports
    both = ReleaseReports.of([*reports().reports, *bad], expected=2)
    assert verdict(both, minutes=1) == (Action.RETURN, "canary version 2 took 9 ms")
    twice = ReleaseReports.of([*reports().reports, *reports(instance="two").reports], expected=2)
    decided = decide(RELEASE, "2", twice, SINCE, SINCE + timedelta(minutes=61))
    assert (decided.action, decided.figures.candidate.images, decided.figures.heard) == (Action.PROMOTE, 200, 2)


def test_the_interval_is_wilsons():
    """Reference values: R, ``prop.test(x, n, correct = FALSE)``."""
    assert error_interval(arm(90, failed=10)) == pytest.approx((0.0552, 0.1744), abs=1e-4)
    assert error_interval(arm(50)) == pytest.approx((0.0, 0.0713), abs=1e-4)
    assert error_interval(arm(0)) == (0.0, 1.0)


@pytest.mark.parametrize("ms", [0.05, 0.7, 5, 33, 900, 12_000])
def test_a_median_is_right_within_the_width_of_a_bucket(ms: float):
    assert arm(7, ms=ms).median_seconds == pytest.approx(max(ms, 0.1) / 1000, rel=0.1)


def test_merging_is_adding():
    merged = merge_arms([arm(3, failed=1, ms=2), arm(5, ms=9)])
    assert (merged.answered, merged.failed, merged.images) == (8, 1, 9)
    assert merged.median_seconds == pytest.approx(0.009, rel=0.1)
    read = ArmFigures.model_validate_json(merged.model_dump_json())
    assert read == merged
