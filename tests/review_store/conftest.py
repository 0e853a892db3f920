"""Empty databases and places for images of each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.helpers.postgres import PASSWORD, Postgres, postgres_server
from tests.helpers.review import CASTING, STEEL
from tests.helpers.s3 import s3_bucket, s3_server
from visionops.review.service import Review
from visionops.review_store.database import Database
from visionops.review_store.images import open_images
from visionops.review_store.store import SqlReviewStore


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Yield a server."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def postgres_database(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URI of an empty database."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with psycopg.connect(postgres.uri, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return postgres.uri


@pytest.fixture
def sqlite_database(tmp_path: Path) -> str:
    """Return the path of a missing file in a missing folder."""
    return str(tmp_path / "review" / "review.db")


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest) -> str:
    """Return an empty database of each kind."""
    return str(request.getfixturevalue(f"{request.param}_database"))


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """Yield the address of a server."""
    with s3_server() as address:
        yield address


@pytest.fixture
def bucket(s3: str) -> Iterator[str]:
    """Return the URI of an empty prefix."""
    with s3_bucket(s3, "review") as uri:
        yield f"{uri}/images"


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Return the path of a missing folder."""
    return str(tmp_path / "images")


@pytest.fixture(params=["folder", "bucket"])
def image_place(request: pytest.FixtureRequest) -> str:
    """Return an empty place for images of each kind."""
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def opened() -> Iterator[Callable[[str, str], Review]]:
    """Return a function that opens reviews with two use cases; they are closed with the test."""
    databases: list[Database] = []

    def open_one(place: str, images: str) -> Review:
        databases.append(Database(place))
        review = Review(SqlReviewStore(databases[-1]), open_images(images))
        review.put_use_case(STEEL)
        review.put_use_case(CASTING)
        return review

    yield open_one
    for database in databases:
        database.close()


@pytest.fixture
def review(place: str, folder: str, opened: Callable[[str, str], Review]) -> Review:
    """Return a review on each kind of database."""
    return opened(place, folder)
