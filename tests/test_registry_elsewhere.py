"""A registry on another MLflow server than the open run, or without an open run."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from tests.helpers.bundles import make_bundle
from tests.helpers.tracking import evaluation, make_tracking
from visionops.registry import ModelRegistry
from visionops.release import register_bundle

pytestmark = pytest.mark.filterwarnings("ignore")  # from MLflow's own code


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    """Return a separate registry with the experiment of the use case."""
    folder = tmp_path / "registry"
    folder.mkdir()
    return ModelRegistry(make_tracking(folder, "case"))


def test_a_registry_beside_an_open_run_elsewhere_takes_the_model_and_leaves_the_run(registry, tmp_path):
    elsewhere = tmp_path / "tracker"
    elsewhere.mkdir()
    uri = make_tracking(elsewhere, "case")
    bundle = make_bundle(tmp_path / "bundle")
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("case")
    with mlflow.start_run() as run:
        version = register_bundle(registry, "case", bundle, evaluation())
        assert mlflow.active_run().info.run_id == run.info.run_id
        mlflow.log_metric("after", 1.0)
    assert mlflow.get_tracking_uri() == uri
    with mlflow.start_run() as second:  # in the tracker's experiment, not in the registry's
        assert second.info.experiment_id == run.info.experiment_id
    tracked = mlflow.MlflowClient(uri, registry_uri=uri)
    assert tracked.get_run(run.info.run_id).data.metrics == {"after": 1.0}
    assert tracked.search_registered_models() == []
    assert registry.promote(version).aliases == ("champion",)
    assert registry.fetch_bundle(version, tmp_path / "fetched").digest == bundle.digest
    assert mlflow.get_tracking_uri() == uri


def test_without_any_open_run_the_registry_opens_one_of_its_own(registry, tmp_path):
    mlflow.set_tracking_uri("")
    version = register_bundle(registry, "case", make_bundle(tmp_path / "bundle"), evaluation())
    assert mlflow.active_run() is None
    assert not mlflow.is_tracking_uri_set()
    client = mlflow.MlflowClient(registry.tracking_uri)
    place = client.get_experiment_by_name("case").experiment_id
    (run,) = client.search_runs([place])
    assert (run.info.run_name, run.info.status) == ("register case", "FINISHED")
    assert registry.by_alias("case", "challenger").version == version.version
