"""Run a few hundred cases of `fuzz`."""

from __future__ import annotations

from tests.conftest import ROOT
from tests.serving.fuzz import ROUTES, fuzz, real_images


def test_no_body_brings_the_server_down_or_is_answered_otherwise_than_documented():
    images = real_images(ROOT.parent / "shared" / "data", count=4)
    outcome = fuzz(images, 200, seed=1, clients=4)
    assert outcome.faults == []
    assert sum(outcome.statuses.values()) == 200
    statuses = {(route, status) for route, _, status in outcome.statuses}
    # The cases reach every route, and what is behind the first check.
    assert statuses >= {(route, 200) for route in ROUTES}
    assert {status for _, status in statuses} >= {400, 408, 413, 415, 422}
    # Bodies of 100 MB and images of 20 megapixels, a few at a time; one bomb would take 900 MB more.
    assert outcome.memory_mb["peak"] < outcome.memory_mb["begin"] + 800
