"""In a run of ZenML, what comes of a stored data set needs no image at hand."""

from typing import Annotated

import numpy as np
import pytest
from PIL import Image
from zenml import pipeline, step

from materializers.dataset import DatasetMaterializer
from materializers.folder import FolderMaterializer
from tests.helpers.zenml_homes import empty_database, own_zenml
from visionops.data.dataset import Dataset
from visionops.data.hashing import hash_images
from visionops.data.shards import StoredDataset
from visionops.home import visionops_home

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML and SQLAlchemy warn of their own code


@step(enable_cache=False, output_materializers={"dataset": DatasetMaterializer})
def ingested(folder: str) -> Annotated[Dataset, "dataset"]:
    """Two images of ``folder``."""
    columns = {"key": ["0.png", "1.png"], "path": [f"{folder}/{i}.png" for i in range(2)], "split": ["train"] * 2}
    return hash_images(Dataset.from_columns("case", (), columns, {}))


@step(enable_cache=False, output_materializers={"prepared": DatasetMaterializer})
def cut(dataset: StoredDataset) -> Annotated[Dataset, "prepared"]:
    """One of them, of which only the hash is known here."""
    assert set(dataset.tables.column("path")) == {""}
    return dataset.tables.take([1])


@pipeline(enable_cache=False)
def cutting(folder: str) -> None:
    """Ingest, then cut."""
    cut(ingested(folder))


def test_images_travel_through_a_step_that_does_not_fetch_them(tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(FolderMaterializer, "_is_local", False)  # as a bucket is
    for i in range(2):
        Image.fromarray(np.full((8, 8, 3), 100 * i, dtype=np.uint8)).save(tmp_path / f"{i}.png")
    with own_zenml(tmp_path_factory.mktemp("zenml"), empty_database(tmp_path_factory)):
        run = cutting(str(tmp_path))
        prepared = run.steps["cut"].outputs["prepared"][0].load()
        assert [path.read_bytes() for path in prepared.paths()] == [(tmp_path / "1.png").read_bytes()]
        assert prepared.paths()[0].is_relative_to(visionops_home())
