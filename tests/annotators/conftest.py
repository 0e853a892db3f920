"""A review of every task, in a database of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.annotators.made import CASES
from tests.helpers.zenml_homes import empty_database, own_zenml
from visionops.review.service import Review
from visionops.review_store.database import Database
from visionops.review_store.images import open_images
from visionops.review_store.store import SqlReviewStore


@pytest.fixture(scope="session")
def zenml_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ZenML's database as it is when it is new."""
    return empty_database(tmp_path_factory)


@pytest.fixture(scope="module")
def module_zenml_home(zenml_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """VISIONOPS_HOME beside an empty ZenML, both of the tests of a file."""
    with own_zenml(tmp_path_factory.mktemp("zenml"), zenml_database) as home:
        yield home


@pytest.fixture
def review(tmp_path: Path) -> Iterator[Review]:
    database = Database(str(tmp_path / "review.db"))
    made = Review(SqlReviewStore(database), open_images(str(tmp_path / "images")))
    for case in CASES:
        made.put_use_case(case)
    yield made
    database.close()
