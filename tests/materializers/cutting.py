"""A pipeline that selects one of two images, in a separate module, as ZenML loads steps by the name of their module."""

from typing import Annotated

from zenml import pipeline, step

from materializers.dataset import DatasetMaterializer
from visionops.data.dataset import Dataset
from visionops.data.hashing import hash_images
from visionops.data.shards import StoredDataset


@step(enable_cache=False, output_materializers={"dataset": DatasetMaterializer})
def ingested(folder: str) -> Annotated[Dataset, "dataset"]:
    """Return two images of ``folder``."""
    columns = {"key": ["0.png", "1.png"], "path": [f"{folder}/{i}.png" for i in range(2)], "split": ["train"] * 2}
    return hash_images(Dataset.from_columns("case", (), columns, {}))


@step(enable_cache=False, output_materializers={"prepared": DatasetMaterializer})
def cut(dataset: StoredDataset) -> Annotated[Dataset, "prepared"]:
    """Return one of them, of which only the hash is on this machine."""
    assert set(dataset.tables.column("path")) == {""}
    return dataset.tables.take([1])


@pipeline(enable_cache=False)
def cutting(folder: str) -> None:
    """Ingest, then cut."""
    cut(ingested(folder))
