"""A separate registry on SQLite, and functions to fill it."""

from __future__ import annotations

import functools
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.helpers.bundles import CLASSES, make_bundle
from tests.helpers.programs import free_port, started
from visionops.data.history import SplitHistory
from visionops.evaluation.result import Evaluation
from visionops.inference.bundle import ModelBundle
from visionops.inference.settings import Precision
from visionops.lineage import add_review, add_splits
from visionops.registry import ModelRegistry, RegisteredVersion
from visionops.release import register_bundle
from visionops.review.versions import ReviewVersion

__all__ = ["MemoryRegistry", "add_version", "evaluation", "make_tracking", "mlflow_server"]


NO_HISTORY = SplitHistory.empty()
_QUICK = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""Disable evaluations by language models, for which it starts more processes with heavy imports."""


def make_tracking(folder: Path, experiment: str = "registry") -> str:
    """Create a new tracking database with one experiment; return its URI."""
    import mlflow

    uri = f"sqlite:///{folder}/mlflow.db"
    (folder / "mlflow.db").write_bytes(_empty_database())
    mlflow.MlflowClient(uri).create_experiment(experiment, artifact_location=(folder / "artifacts").as_uri())
    return uri


@functools.cache
def _empty_database() -> bytes:
    """Return an empty database, created once because MLflow's fifty migrations take seconds."""
    import mlflow

    with tempfile.TemporaryDirectory() as folder:
        mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
        return (Path(folder) / "mlflow.db").read_bytes()


@contextmanager
def mlflow_server(folder: Path, store: str, artifacts: str, env: Mapping[str, str]) -> Iterator[str]:
    """Yield the address of a real server while the block runs.

    Args:
        folder: Folder of its log.
        store: URI of its database.
        artifacts: URI of its file store; clients send files to the server.
        env: Credentials of both.
    """
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1"]
    command += [f"--backend-store-uri={store}", "--serve-artifacts", f"--artifacts-destination={artifacts}"]
    with started(folder, port, *command, ready="/health", env={**_QUICK, **env}):
        yield f"http://127.0.0.1:{port}"


def add_version(
    registry: ModelRegistry,
    name: str,
    folder: Path,
    gain: float,
    scored: Evaluation | None = None,
    *,
    quantized_from: str = "",
    history: SplitHistory | None = NO_HISTORY,
    review: ReviewVersion | None = None,
    **options: Any,
) -> RegisteredVersion:
    """Log and register a bundle made different by ``gain``.

    Args:
        scored: Its evaluation; `evaluation` when None.
        quantized_from: Digest in the card of the bundle from which this one was quantized.
        history: Split history of the card; None for a bundle without one.
        review: Review data that it was trained on.
        options: Options of `make_bundle`.
    """
    import mlflow

    mlflow.set_tracking_uri(registry.tracking_uri)
    mlflow.set_experiment("registry")
    bundle = make_bundle(folder / f"bundle-{gain}-{len(quantized_from)}", gain=gain, **options)
    if quantized_from:
        facts = {"quantization": {"of": quantized_from}}
        bundle = ModelBundle.create(bundle.folder, bundle.card.model_copy(update={"training": facts}))
    if history is not None:
        bundle = add_splits(bundle, history)
    bundle = add_review(bundle, review)
    with mlflow.start_run():
        return register_bundle(registry, name, bundle, scored or evaluation())


class MemoryRegistry(ModelRegistry):
    """A registry in memory, for many moves, with only the parts of MLflow's client that `ModelRegistry` uses.

    The bundle of a version is only a card; see `add`.
    """

    def __init__(self) -> None:
        self.client = _MemoryClient()

    @contextmanager
    def _client(self) -> Iterator[Any]:
        yield self.client

    def add(self, name: str, precision: Precision = Precision.F32, **tags: str) -> RegisteredVersion:
        """Register a version with this precision, as `register` would."""
        number = str(len(self.client.versions) + 1)
        tags = {"visionops.digest": number, "visionops.precision": precision.value, **tags}
        self.client.versions[number] = SimpleNamespace(
            name=name, version=number, tags=tags, creation_timestamp=1000 * int(number)
        )
        return self._read(self.client, name, number)

    def fetch_bundle(self, version: RegisteredVersion, folder: Path) -> Any:
        """Return the parts of a bundle that a fake task needs: the digest, the classes, and no split history."""
        card = SimpleNamespace(task="detection", class_names=CLASSES, files={})
        return SimpleNamespace(digest=version.digest, card=card)


class _MemoryClient:
    def __init__(self) -> None:
        self.versions: dict[str, Any] = {}
        self.aliases: dict[str, str] = {}

    def get_model_version(self, name: str, version: str) -> Any:
        if version not in self.versions:
            raise self._missing(version)
        found = self.versions[version]
        aliases = [alias for alias, number in self.aliases.items() if number == version]
        return SimpleNamespace(**vars(found) | {"tags": dict(found.tags), "aliases": aliases})

    def get_model_version_by_alias(self, name: str, alias: str) -> Any:
        if alias not in self.aliases:
            raise self._missing(alias)
        return self.get_model_version(name, self.aliases[alias])

    def search_model_versions(self, _filter: str, *, max_results: int, order_by: list[str]) -> list[Any]:
        assert order_by == ["creation_timestamp DESC"]
        return list(reversed(self.versions.values()))[:max_results]

    def get_registered_model(self, name: str) -> Any:
        return SimpleNamespace(aliases=dict(self.aliases))

    def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        self.versions[version].tags[key] = value

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self.aliases[alias] = version

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        self.aliases.pop(alias, None)

    @staticmethod
    def _missing(what: str) -> Exception:
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

        return MlflowException(f"{what}: not found", RESOURCE_DOES_NOT_EXIST)


def evaluation(map50: float = 0.8, test: str = "t1") -> Evaluation:
    """Return an evaluation with these metrics."""
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
