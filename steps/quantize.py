"""Quantize the champion to INT8."""

from __future__ import annotations

from typing import Annotated

from zenml import log_metadata, step

from materializers.model_bundle import ModelBundleMaterializer
from steps.context import champion_bundle
from steps.progress import announce, progress
from visionops.data.dataset import Split
from visionops.data.history import SplitHistory
from visionops.data.shards import StoredDataset
from visionops.inference.bundle import ModelBundle
from visionops.lineage import add_splits
from visionops.quantization.int8 import calibration_images, quantization_folder, quantize_bundle
from visionops.quantization.settings import QuantizationPlan
from visionops.tasks.spec import task_for

__all__ = ["quantize_champion"]


# Not cached, because the champion may have changed.
@step(enable_cache=False, output_materializers={"bundle": ModelBundleMaterializer})
def quantize_champion(
    prepared: StoredDataset, splits: SplitHistory, plan: QuantizationPlan
) -> Annotated[ModelBundle, "bundle"]:
    """Quantize the champion with validation images; the bundle includes the history of splits."""
    dataset = prepared.only(Split.VAL)
    images = calibration_images(dataset, plan.quantization.images).num_images
    use_case = plan.scoring.use_case
    with champion_bundle(use_case.name) as (champion, bundle), progress("quantize", images) as report:
        target = quantization_folder(bundle, dataset, plan)
        quantized = quantize_bundle(bundle, dataset, task_for(use_case.task), plan, target, report)
    log_metadata({"quantized_version": champion.version, "images": images})
    announce(f"quantized version {champion.version} on {images} validation images")
    return add_splits(quantized, splits)
