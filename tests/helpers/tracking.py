"""A registry of its own on SQLite, and a way to fill it."""

from __future__ import annotations

import functools
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.helpers.bundles import make_bundle
from tests.helpers.programs import free_port, started
from visionops.registry import ModelRegistry, RegisteredVersion
from visionops.release import register_bundle
from visionops.tasks.base import Evaluation

__all__ = ["add_version", "evaluation", "make_tracking", "mlflow_server"]


_QUICK = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""For evaluations by language models it starts more processes, which import as much as it does."""


def make_tracking(folder: Path, experiment: str = "registry") -> str:
    """A new tracking database with one experiment; returns its URI."""
    import mlflow

    uri = f"sqlite:///{folder}/mlflow.db"
    (folder / "mlflow.db").write_bytes(_empty_database())
    mlflow.MlflowClient(uri).create_experiment(experiment, artifact_location=(folder / "artifacts").as_uri())
    return uri


@functools.cache
def _empty_database() -> bytes:
    """MLflow makes its tables by fifty migrations, which take seconds: once is enough."""
    import mlflow

    with tempfile.TemporaryDirectory() as folder:
        mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
        return (Path(folder) / "mlflow.db").read_bytes()


@contextmanager
def mlflow_server(folder: Path, store: str, artifacts: str, env: Mapping[str, str]) -> Iterator[str]:
    """Address of a real server while the block runs.

    Args:
        folder: For its log.
        store: URI of its database.
        artifacts: URI of where it keeps files; clients send them to the server.
        env: Credentials of both.
    """
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1"]
    command += [f"--backend-store-uri={store}", "--serve-artifacts", f"--artifacts-destination={artifacts}"]
    with started(folder, port, *command, ready="/health", env={**_QUICK, **env}, seconds=180):
        yield f"http://127.0.0.1:{port}"


def add_version(registry: ModelRegistry, name: str, folder: Path, gain: float) -> RegisteredVersion:
    """Log and register a bundle made different by ``gain``."""
    import mlflow

    mlflow.set_tracking_uri(registry.tracking_uri)
    mlflow.set_experiment("registry")
    bundle = make_bundle(folder / f"bundle-{gain}", gain=gain)
    with mlflow.start_run():
        return register_bundle(registry, name, bundle, evaluation())


def evaluation(map50: float = 0.8, test: str = "t1") -> Evaluation:
    """An evaluation with these figures."""
    return Evaluation(
        folder=Path(),
        metrics={"map50": map50, "map50_95": map50 / 2},
        per_class={},
        num_images=10,
        test_fingerprint=test,
        bundle_digest="",
        engine="openvino",
        precision="f32",
    )
