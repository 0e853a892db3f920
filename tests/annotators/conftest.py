"""A review of every task, in a database of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.annotators.made import CASES
from visionops.review.service import Review
from visionops.review_store.database import Database
from visionops.review_store.images import open_images
from visionops.review_store.store import SqlReviewStore


@pytest.fixture
def review(tmp_path: Path) -> Iterator[Review]:
    database = Database(str(tmp_path / "review.db"))
    made = Review(SqlReviewStore(database), open_images(str(tmp_path / "images")))
    for case in CASES:
        made.put_use_case(case)
    yield made
    database.close()
