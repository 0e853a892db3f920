"""Fixtures: a server in this process, over generated bundles."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.serving.app import create_app
from deploy.serving.models.models import Loader
from deploy.serving.models.startup import start_models
from deploy.serving.settings import Settings
from tests.helpers.bundles import encode, make_bundle, picture

with warnings.catch_warnings():
    # Starlette asks for httpx2 since 1.0; httpx does the same work here.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

KEY = "k3y"


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Undo a test's changes of the loggers."""
    loggers = [logging.getLogger(name) for name in ("visionops", "uvicorn")]
    before = [(list(logger.handlers), logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        for handler in set(logger.handlers) - set(handlers):
            handler.close()
        logger.handlers[:], logger.level, logger.propagate = handlers, level, propagate


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "one", metrics={"map50": 0.9}).folder


@pytest.fixture(scope="session")
def other_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 2, of another digest."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "two", gain=1.5).folder


@pytest.fixture(scope="session")
def red_cell() -> bytes:
    """A PNG with one red cell at (64, 32)."""
    return encode(picture([("red", 2, 1)]))


def settings_of(bundle: Path | None, **changes: object) -> Settings:
    return Settings.model_validate(
        {"bundle": bundle, "name": "cells", "version": "1", "alias": "champion", "admin_key": KEY, "streams": 2}
        | changes
    )


def client_of(settings: Settings) -> TestClient:
    loader = Loader(settings)
    app = create_app(settings, start_models(settings, loader), loader)
    # An address of this machine, because a server without keys accepts no other.
    return TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50000))


@pytest.fixture
def client(bundle: Path) -> Iterator[TestClient]:
    """A ready server with a key and small limits."""
    with client_of(settings_of(bundle, max_upload_bytes=100_000, max_pixels=1_000_000)) as client:
        yield client
