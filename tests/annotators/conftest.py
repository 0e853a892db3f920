"""A review of every task, in a database of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.annotators.made import CASES
from tests.annotators.server import Server, label_studio
from tests.helpers.zenml_homes import empty_database, own_zenml
from visionops.review.label_studio.tool import LabelStudio
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


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Label Studio that runs; skips where it is not installed."""
    with label_studio(tmp_path_factory.mktemp("label-studio")) as started:
        yield started


@pytest.fixture
def tool(server: Server) -> LabelStudio:
    """One without projects."""
    for project in server.call("GET", "/api/projects/")["results"]:
        server.call("DELETE", f"/api/projects/{project['id']}/")
    return LabelStudio(server.url, server.personal)
