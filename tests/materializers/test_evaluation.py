"""Test that an evaluation is stored and loaded with its intervals, and shows them."""

from __future__ import annotations

import math
from pathlib import Path
from uuid import uuid4

import pytest
from zenml.artifact_stores.local_artifact_store import LocalArtifactStore, LocalArtifactStoreConfig
from zenml.enums import StackComponentType

from materializers.evaluation import EvaluationMaterializer
from tests.helpers.bundles import encode, filled, make_label_bundle
from visionops.config import Config
from visionops.data.dataset import Dataset
from visionops.data.layers import Attribute
from visionops.evaluation.result import Evaluation
from visionops.tasks.classification.evaluation import evaluate_labels

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def store(tmp_path):
    (tmp_path / "store").mkdir()
    return LocalArtifactStore(
        name="store",
        id=uuid4(),
        config=LocalArtifactStoreConfig(path=str(tmp_path / "store")),
        flavor="local",
        type=StackComponentType.ARTIFACT_STORE,
        user=None,
        created="2026-01-01T00:00:00",
        updated="2026-01-01T00:00:00",
    )


@pytest.fixture
def evaluation(tmp_path):
    keys = ["a.png", "b.png", "c.png"]
    for key, colour in zip(keys, [(255, 0, 0), (0, 255, 0), (0, 255, 0)], strict=True):
        (tmp_path / key).write_bytes(encode(filled(colour)))
    images = {"key": keys, "path": [str(tmp_path / key) for key in keys], "split": ["test"] * 3}
    attributes = (Attribute("class", ("red", "green", "blue")),)
    dataset = Dataset.from_columns("colours", (), images, {}, attributes=attributes, labels={"class": [0, 1, 0]})
    config = Config.model_validate(
        {
            "name": "colours",
            "task": "classification",
            "data": {"source": {"kind": "folder", "path": "."}, "format": "folders"},
            "evaluation": {"resamples": 100, "latency_images": 1},
        }
    )
    return evaluate_labels(make_label_bundle(tmp_path / "bundle"), dataset, config.scoring, tmp_path / "evaluation")


def test_it_comes_back_with_intervals_and_replicates(store, evaluation):
    uri = f"{store.path}/evaluation"
    EvaluationMaterializer(uri, store).save(evaluation)
    loaded = EvaluationMaterializer(uri, store).load(Evaluation)
    assert (Path(uri) / "report.html").is_file()
    assert loaded.intervals == evaluation.intervals
    assert len(loaded.replicates["accuracy"]) == 100
    assert math.isnan(loaded.per_class["blue"]["recall"])


def test_the_dashboard_shows_figures_with_their_intervals(store, evaluation):
    metadata = EvaluationMaterializer(f"{store.path}/evaluation", store).extract_metadata(evaluation)
    assert metadata["accuracy"] == pytest.approx(2 / 3)
    low, high = evaluation.intervals["accuracy"]
    assert metadata["accuracy_interval"] == f"{low:.3f} to {high:.3f}"
    assert not any("red" in name for name in metadata)
