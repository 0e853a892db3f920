"""Kills of server and intake at random times: each acknowledged feedback exists once, and no row without image.

`VISIONOPS_KILLS=200` kills as often; the seed is fixed.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.helpers.bundles import make_bundle
from tests.helpers.intake_crashes import CELLS, kill_often
from visionops.review.intake import Intake
from visionops.review.ports import ItemFilter
from visionops.review.server_logs import ServerLogs
from visionops.review.settings import ReviewConfig

KILLS = int(os.environ.get("VISIONOPS_KILLS", "2"))
_PASSED_ON = ("PGPASSWORD",)


@pytest.mark.slow
@pytest.mark.kills
@pytest.mark.parametrize("kind", ["sqlite_database", "postgres_database"])
def test_acknowledged_feedback_outlives_any_kill(
    request: pytest.FixtureRequest, tmp_path: Path, opened, folder: str, kind: str
):
    place, bundle = request.getfixturevalue(kind), make_bundle(tmp_path / "bundle").folder
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    client = kill_often(place, folder, tmp_path, bundle, KILLS, 17, environment)
    review = opened(place, folder)
    review.put_use_case(CELLS)
    intake = Intake(review, "cells", ServerLogs(tmp_path / "log"), ReviewConfig())
    intake.run(datetime.now(UTC) + timedelta(minutes=1))
    again = intake.run(datetime.now(UTC) + timedelta(minutes=1))
    assert (again.new, again.known, again.feedback, again.refused) == (0, 0, 0, ())

    items = {}
    page = review.store.items(ItemFilter("cells", limit=1000))
    while page:
        items |= {item.id: item for item in page}
        page = review.store.items(ItemFilter("cells", limit=1000, after=page[-1].id))
    said: dict[str, int] = {}
    traffic: dict[str, int] = {}
    for item in items.values():
        assert len(review.images.read(item.image.sha256)) == item.image.num_bytes
        for arrival in review.store.arrivals(item.id):
            kinds = [reason.kind for reason in arrival.reasons]
            if kinds == ["feedback"]:
                said[arrival.comment] = said.get(arrival.comment, 0) + 1
            else:
                traffic[arrival.reference] = traffic.get(arrival.reference, 0) + 1
    assert client.acknowledged
    assert set(client.acknowledged.values()) <= set(items)
    assert {f"comment {number}" for number in client.acknowledged} <= set(said)
    assert set(said.values()) == {1}
    assert {item.image.sha256 for item in items.values()} == {name for name, _ in review.images.digests()}
    print(f"{KILLS} kills: {len(client.acknowledged)} acknowledged, {len(said)} kept, {len(traffic)} of traffic")  # noqa: T201
