"""Test the counts of `benchmarks.active_learning`."""

from __future__ import annotations

import pytest

from benchmarks.active_learning import Run, ratio


def run(*figures: float, full: float = 1.0) -> Run:
    return Run("parts", "ours", 0, 100, full, [10 * n for n in range(1, len(figures) + 1)], list(figures))


def test_a_round_must_reach_the_goal_on_average():
    assert run(0.5, 0.96, 0.5, 0.6, 0.94, 0.97, 0.96).needed == 50  # a single value at 20 is chance
    assert run(0.5, 0.96, 0.94).needed == 100
    assert run(0.96).needed == 100
    assert run(0.7, 0.77, 0.77, 0.77, full=0.8).needed == 20


def test_the_ratio_is_that_of_the_medians_and_its_interval_covers_the_seeds():
    ours, theirs = ([run(*[0.0] * k, 1.0, 1.0, 1.0) for k in counts] for counts in ((1, 2, 3), (3, 5, 7)))
    assert ratio(ours, theirs) == (pytest.approx(30 / 60), pytest.approx(20 / 40), pytest.approx(40 / 80))
    middle, low, high = ratio(ours, list(reversed(theirs)))
    assert low < middle < high
    assert ratio(ours, ours) == (1.0, 1.0, 1.0)
