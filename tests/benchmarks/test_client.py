"""Test how the client's benchmark evaluates its measurements."""

from __future__ import annotations

import random

from benchmarks.client import differences, rows_of


def test_both_are_called_in_each_pair_in_either_order():
    order: list[str] = []
    pairs = differences(lambda: order.append("bare"), lambda: order.append("client"), 40, random.Random(1))
    measured = order[-80:]
    assert len(pairs) == 40
    firsts = measured[::2]
    assert set(firsts) == {"bare", "client"}
    assert all({a, b} == {"bare", "client"} for a, b in zip(firsts, measured[1::2], strict=True))


def test_the_difference_counts_and_not_what_the_machine_does():
    slow = [5.0, 80.0, 20.0, 6.0, 300.0, 7.0, 9.0]
    median, added, low, high = rows_of("/predict", [(bare, bare + 0.4) for bare in slow])
    assert (median.value, round(added.value, 6), added.met) == (9.0, 0.4, True)
    assert round(low.value, 6) == round(high.value, 6) == 0.4
    assert rows_of("/predict", [(bare, bare + 1.4) for bare in slow])[1].met is False
    # The median is above the target, but within the spread.
    assert rows_of("/predict", [(5.0, 5.0 + more) for more in (0.2, 0.9, 1.1, 1.2, 0.5, 1.3, 1.1)])[1].met is True
