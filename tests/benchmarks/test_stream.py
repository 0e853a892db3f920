"""Test how the camera benchmark evaluates a run."""

from __future__ import annotations

from benchmarks.stream import AnsweredFrame, CameraResult, rows_of

SECONDS, RATE, PERIOD = 60.0, 30.0, 1 / 13
"""Duration and rates of a camera of 30/s and a model of 13/s."""


def seen_of(lag: float, growth: float = 1.0, drift: float = 1.0) -> CameraResult:
    """Return a one-minute run with a lag in seconds that drifts by a factor until its end."""
    count = round(SECONDS / PERIOD)
    answers = [
        AnsweredFrame(round(number * PERIOD * RATE), number * PERIOD, lag * drift ** (number / count), lag - PERIOD)
        for number in range(count)
    ]
    sent = round(SECONDS * RATE)
    resident = [100.0] * 30 + [100.0 * growth] * 30
    return CameraResult(sent=sent, dropped=sent - count, answers=answers, resident=resident)


def missed(seen: CameraResult) -> set[str]:
    return {row.what.partition(":")[0] for row in rows_of(seen, RATE, 13.0, SECONDS) if row.met is False}


def test_a_run_is_judged_by_lag_memory_and_lost_frames():
    assert missed(seen_of(0.11)) == set()
    assert missed(seen_of(0.2)) == {"lag", "wait before work"}
    assert missed(seen_of(0.08, drift=1.8)) == {"lag"}
    assert missed(seen_of(0.11, growth=1.06)) == {"resident, most / after 5 s - 1"}
    lost = seen_of(0.11)
    lost.dropped -= 1
    assert missed(lost) == {"neither answered, dropped nor refused"}
    refused = seen_of(0.11)
    refused.refused, refused.dropped = 1, refused.dropped - 1
    assert missed(refused) == {"refused"}
