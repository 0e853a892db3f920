"""Test the servers that tests start."""

from __future__ import annotations

from tests.helpers.programs import get
from tests.helpers.s3 import seaweed_server


def test_two_stores_run_at_once():
    with seaweed_server() as one, seaweed_server() as other:
        assert [get(int(each.rpartition(":")[2]), "/healthz")[0] for each in (one, other)] == [200, 200]
