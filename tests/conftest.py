"""What every test needs: no telemetry, no network look-ups, the real images when they are there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.update(
    ZENML_ANALYTICS_OPT_IN="false",
    MLFLOW_DISABLE_TELEMETRY="true",
    DO_NOT_TRACK="1",
    YOLO_OFFLINE="1",
    YOLO_AUTOINSTALL="0",
    OMP_WAIT_POLICY="PASSIVE",  # two workers on two cores: spinning threads would starve each other
)

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, so that no worker is left alone with one at the end."""
    items.sort(key=lambda item: "integration" not in item.path.parts)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images beside the project; skips where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real images are absent: {folder}")
    return folder
