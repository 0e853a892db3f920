"""Shares of keys, and the bounds of a canary."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deploy.serving.models.roles import Bounds, Breach, Record, in_share

SHARES = st.floats(0, 1)


@given(st.text(), SHARES, SHARES)
def test_a_growing_share_only_adds_keys(key: str, one: float, other: float):
    low, high = sorted((one, other))
    assert in_share(high, key, "cells") or not in_share(low, key, "cells")
    assert in_share(1.0, key, "cells")
    assert not in_share(0.0, key, "cells")


def test_a_share_is_about_that_many_keys_and_of_each_canary_others():
    keys = [f"camera-{n}" for n in range(4000)]
    first, second = ({key for key in keys if in_share(0.25, key, salt)} for salt in ("cells 2", "cells 3"))
    assert 900 < len(first) < 1100
    assert 200 < len(first & second) < 300  # a quarter of a quarter is 250


def record(milliseconds: float, answered: int, failed: int = 0) -> Record:
    made = Record()
    for _ in range(answered):
        made.answered(milliseconds / 1000)
    for _ in range(failed):
        made.failed()
    return made


def test_a_canary_is_judged_by_what_it_fails_on():
    bounds = Bounds(max_error_rate=0.1, min_requests=20)
    assert bounds.breach(record(5, 0, failed=19), record(5, 100)) is None
    assert bounds.breach(record(5, 18, failed=2), record(5, 100)) is None
    assert bounds.breach(record(5, 17, failed=3), record(5, 100)) == (
        Breach.ERROR_RATE,
        "failed on 15.0% of its last 20 images",
    )


def test_a_canary_is_judged_by_its_median_time():
    bounds = Bounds(max_latency_ratio=2, min_requests=20)
    assert bounds.breach(record(9.9, 20), record(5, 20)) is None
    assert bounds.breach(record(11, 20), record(5, 19)) is None
    breach, figures = bounds.breach(record(11, 20), record(5, 20))
    assert (breach, figures) == (Breach.LATENCY, "took 11.0 ms an image where the champion took 5.0 ms")


def test_a_record_forgets():
    long_ago = record(5, 0, failed=50)
    for _ in range(200):
        long_ago.answered(0.005)
    assert (long_ago.images, long_ago.error_rate) == (200, 0.0)
