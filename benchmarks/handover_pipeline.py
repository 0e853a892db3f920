"""Pass one value through a pipeline of two steps. Import it after ZenML's home is set, which ZenML reads on import."""

from pathlib import Path
from typing import Any

from zenml import pipeline, step

from materializers.converted import ConvertedMaterializer
from materializers.dataset import DatasetMaterializer
from visionops.data.dataset import Dataset
from visionops.tasks.converted import ConvertedDataset

__all__ = ["run_handover"]

# Module state works because the local orchestrator runs steps in this process; parameters would go through JSON.
_held: dict[str, Any] = {}


@step(enable_cache=False)
def _give_number() -> int:
    return int(_held["value"])


@step(enable_cache=False)
def _take_number(value: int) -> None:
    assert value == 1


@step(enable_cache=False, output_materializers=DatasetMaterializer)
def _give_dataset() -> Dataset:
    dataset: Dataset = _held["value"]
    return dataset


@step(enable_cache=False)
def _take_dataset(value: Dataset) -> None:
    assert value.num_images


@step(enable_cache=False, output_materializers=ConvertedMaterializer)
def _give_converted() -> ConvertedDataset:
    converted: ConvertedDataset = _held["value"]
    return converted


@step(enable_cache=False)
def _take_converted(value: ConvertedDataset) -> None:
    assert value.folder.is_dir()


@step(enable_cache=False)
def _give_path() -> Path:
    return Path(_held["value"])


@step(enable_cache=False)
def _take_path(value: Path) -> None:
    assert any(value.iterdir())


@pipeline(enable_cache=False)
def _numbers() -> None:
    _take_number(_give_number())


@pipeline(enable_cache=False)
def _datasets() -> None:
    _take_dataset(_give_dataset())


@pipeline(enable_cache=False)
def _conversions() -> None:
    _take_converted(_give_converted())


@pipeline(enable_cache=False)
def _paths() -> None:
    _take_path(_give_path())


def run_handover(value: int | Dataset | ConvertedDataset | Path) -> None:
    """Run one pipeline in which the first step returns ``value`` and the second takes it."""
    _held["value"] = value
    {int: _numbers, Dataset: _datasets, ConvertedDataset: _conversions}.get(type(value), _paths)()
