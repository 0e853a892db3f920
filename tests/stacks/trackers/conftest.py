"""Fixtures with a real training and a search that are logged to each tracker."""

from __future__ import annotations

from pathlib import Path

import pytest

from stacks.tracking import ADAPTERS
from tests.helpers.trackers import Store, Tape, mlflow_store, trackio_store, wandb_store
from tests.helpers.tracking import make_tracking
from tests.helpers.training import convert_and_train
from tests.tasks.detection.conftest import plates, plates_plan
from visionops.tasks.detection.spec import DetectionTask


@pytest.fixture(scope="session")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Tape:
    """Record what a real training of a detector logs."""
    folder = tmp_path_factory.mktemp("taped")
    tape = Tape(folder / "files")
    convert_and_train(DetectionTask().train, plates(folder / "images"), plates_plan(), folder / "work", tape)
    return tape


@pytest.fixture(params=sorted(ADAPTERS))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Return the store of each tracker that has an adapter."""
    if request.param == "mlflow":
        return mlflow_store(make_tracking(tmp_path, "plates"), "plates")
    if request.param == "wandb":
        return wandb_store(tmp_path / "wandb")
    assert request.param == "trackio"
    return trackio_store(tmp_path.name)
