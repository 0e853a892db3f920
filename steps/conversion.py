"""Convert a prepared data set to the format of its task's trainer."""

from __future__ import annotations

from typing import Annotated

from zenml import step

from materializers.converted import ConvertedMaterializer
from steps.data import CACHE
from steps.progress import announce, progress
from visionops.data.dataset import Split
from visionops.data.shards import StoredDataset
from visionops.tasks import conversion
from visionops.tasks.conversion_plan import ConversionPlan
from visionops.tasks.converted import ConvertedDataset

__all__ = ["convert"]


@step(cache_policy=CACHE, output_materializers={"converted": ConvertedMaterializer})
def convert(prepared: StoredDataset, plan: ConversionPlan) -> Annotated[ConvertedDataset, "converted"]:
    """Convert the train and val splits; trainings that differ only in other settings share the result."""
    dataset = prepared.only(Split.TRAIN, Split.VAL)
    with progress("convert", 0) as report:
        folder = conversion.conversion_folder(dataset, plan)
        converted = conversion.convert(dataset, plan, folder, lambda done, total, note: report(done, note, total=total))
    announce(f"converted {dataset.describe()} for {plan.task}")
    return converted
