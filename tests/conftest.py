"""What every test needs: no telemetry, no network look-ups, the real images when they are there."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.update(
    ZENML_ANALYTICS_OPT_IN="false",
    # The decorators of steps open ZenML's database: a module that imports one while tests are collected would open the
    # developer's, and where there is none all workers would make it at once. A test gets its own from `home`.
    ZENML_CONFIG_PATH=f"{os.devnull}/import-steps-inside-the-test",
    MLFLOW_DISABLE_TELEMETRY="true",
    DO_NOT_TRACK="1",
    # A worker of xdist has no main module by which ZenML would find it.
    ZENML_CUSTOM_SOURCE_ROOT=str(Path(__file__).resolve().parents[1]),
    YOLO_OFFLINE="1",
    YOLO_AUTOINSTALL="0",
    # Three workers on two cores: more threads than these, or spinning ones, would only starve each other.
    OMP_NUM_THREADS="1",
    OMP_WAIT_POLICY="PASSIVE",
)

# What hypothesis would take for slow code is a machine that has more to do. Under CI its own profile is the base.
settings.register_profile("busy", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

ROOT = Path(__file__).resolve().parents[1]
LONG = ("integration", "tuning", "tasks", "deploy_monitoring", "stacks")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first, and keep the tracer out of what is timed."""
    # A file goes to one worker: a long one that came last would be waited for with half of the cores idle.
    items.sort(key=lambda item: next((i for i, part in enumerate(LONG) if part in item.path.parts), len(LONG)))
    for item in items:
        if "benchmarks" in item.path.parts:
            item.add_marker("no_cover")


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """VISIONOPS_HOME of a worker, and its ZenML: nothing in them is a developer's or of the run before."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISIONOPS_HOME", str(folder))
        patch.setenv("ZENML_CONFIG_PATH", str(folder / "zenml"))
        yield folder


@pytest.fixture(autouse=True)
def _all_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    """Let `caplog` hear every line: a library that a test before used may have set the level of all handlers."""
    caplog.handler.setLevel(logging.NOTSET)
    logging.disable(logging.NOTSET)


@pytest.fixture(autouse=True)
def _own_tracking() -> Iterator[None]:
    """Forget the servers and the experiment that a test made MLflow use."""
    names = [f"MLFLOW_{name}" for name in ("TRACKING_URI", "REGISTRY_URI", "EXPERIMENT_ID")]
    before = {name: os.environ.get(name) for name in names}
    yield
    if before == {name: os.environ.get(name) for name in names}:
        return
    import mlflow
    from mlflow.tracking import fluent

    tracking, registry, experiment = before.values()
    mlflow.set_tracking_uri(tracking)
    mlflow.set_registry_uri(registry)
    fluent._active_experiment_id = experiment
    for name, value in before.items():  # MLflow's own way to hand them to child processes
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images beside the project; skips where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real images are absent: {folder}")
    return folder
