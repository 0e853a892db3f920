"""Kills at random times: every acknowledged arrival, decision and export exists once, and no row without its image.

`VISIONOPS_KILLS=200` kills as often; the seed is fixed.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.helpers.review_crashes import check, kill_often

KILLS = int(os.environ.get("VISIONOPS_KILLS", "10"))
_PASSED_ON = ("PGPASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL")


@pytest.mark.slow
@pytest.mark.kills
@pytest.mark.parametrize(("kind", "kept"), [("sqlite_database", "folder"), ("postgres_database", "bucket")])
def test_what_was_acknowledged_outlives_any_kill(
    request: pytest.FixtureRequest, tmp_path: Path, opened, kind: str, kept: str
):
    place, images = request.getfixturevalue(kind), request.getfixturevalue(kept)
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    notes = kill_often(place, images, tmp_path, KILLS, 7, environment)
    done = check(opened(place, images), notes)
    print(f"{KILLS} kills: {dict(done)}")  # noqa: T201
    assert min(done["add"], done["decide"], done["export"]) > 0
