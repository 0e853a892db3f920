"""Fixtures: a control service in this process, over an empty database and a folder of use cases."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from deploy.control.__main__ import open_control
from deploy.control.app import create_app
from deploy.control.options import ControlOptions
from deploy.control.routes.context import Control
from deploy.http.keys import Client, KeyRole, make_key
from tests.conftest import ROOT
from tests.helpers.review import CASTING, STEEL

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Undo a test's changes of the loggers."""
    loggers = [logging.getLogger(name) for name in ("visionops", "uvicorn")]
    before = [(list(logger.handlers), logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        for handler in set(logger.handlers) - set(handlers):
            handler.close()
        logger.handlers[:], logger.level, logger.propagate = handlers, level, propagate


KEYS = {role: make_key(Client(f"the-{role}", role)) for role in KeyRole}
BEA = make_key(Client("bea", KeyRole.REVIEW))


def header(role: KeyRole) -> dict[str, str]:
    return {"X-API-Key": KEYS[role][0]}


def write_use_case(folder: Path, name: str, cooldown_hours: float = 0) -> Path:
    """Write a use case without data, whose training fails at once with one line.

    Args:
        cooldown_hours: Above 0 the service queries the registry, which starts a process that imports ZenML.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = yaml.safe_load((ROOT / "configs" / "steel.yaml").read_text())
    found["name"] = name
    found["data"]["source"] = {"kind": "folder", "path": str(folder / "absent")}
    found.setdefault("monitoring", {})["policy"] = {"cooldown_hours": cooldown_hours}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(found))
    return path


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("\n".join(line for _, line in (*KEYS.values(), BEA)))
    return path


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    write_use_case(tmp_path / "configs", "steel")
    return tmp_path / "configs"


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONOPS_REVIEW_DATABASE", str(tmp_path / "review.db"))
    monkeypatch.setenv("VISIONOPS_REVIEW_IMAGES", str(tmp_path / "images"))


@pytest.fixture
def opened(places: None, key_file: Path, configs: Path, tmp_path: Path) -> Iterator[Callable[..., Control]]:
    controls: list[Control] = []

    def open_one(**changes: object) -> Control:
        given = {"configs": configs, "keys": key_file, "runs": tmp_path / "runs"} | changes
        control, _ = open_control(ControlOptions.model_validate(given))
        controls.append(control)
        control.review.put_use_case(STEEL)
        control.review.put_use_case(CASTING)
        return control

    yield open_one
    for control in controls:
        control.runs.close()


@pytest.fixture
def control(opened: Callable[..., Control]) -> Control:
    return opened()


@pytest.fixture
def client(control: Control) -> Iterator[TestClient]:
    with TestClient(create_app(control), base_url="http://line.example", client=("192.0.2.7", 50000)) as found:
        yield found
