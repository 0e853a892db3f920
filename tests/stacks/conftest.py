"""Fixtures with a separate ZenML for these tests, and bundles to deploy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.bundles import encode, make_bundle, picture
from tests.helpers.zenml_homes import empty_database, own_zenml


@pytest.fixture(scope="session")
def zenml_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a new ZenML database."""
    return empty_database(tmp_path_factory)


@pytest.fixture
def zenml_home(zenml_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Set VISIONOPS_HOME next to an empty ZenML, both for one test."""
    with own_zenml(tmp_path_factory.mktemp("zenml"), zenml_database) as home:
        yield home


@pytest.fixture(scope="module")
def module_zenml_home(zenml_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Set up the same as `zenml_home`, shared by the tests of a file."""
    with own_zenml(tmp_path_factory.mktemp("zenml"), zenml_database) as home:
        yield home


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Create two valid bundles with different digests."""
    root = tmp_path_factory.mktemp("bundles")
    return make_bundle(root / "one").folder, make_bundle(root / "two", gain=1.5).folder


@pytest.fixture(scope="session")
def red_cell() -> bytes:
    """Return a PNG with one red cell."""
    return encode(picture([("red", 2, 1)]))
