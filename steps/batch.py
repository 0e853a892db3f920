"""From unlabelled images to tables of predictions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from zenml import log_metadata, step
from zenml.types import HTMLString

from materializers.dataset import DatasetMaterializer
from steps.context import active_deployer, champion_bundle
from steps.progress import announce, progress
from visionops.batch import BatchSummary, batch_predictor, list_images, predict_batch, render_batch_html
from visionops.config import Config
from visionops.data.dataset import Dataset, Split
from visionops.data.remote import is_uri, mirror_images, mirror_name
from visionops.errors import StackError
from visionops.home import visionops_home
from visionops.monitoring.log import PredictionLog

__all__ = ["collect", "predict"]


@step(enable_cache=False, output_materializers={"images": DatasetMaterializer})
def collect(config: Config, folder: str) -> Annotated[Dataset, "images"]:
    """List the images below a folder, or below a prefix of an object store, mirrored first."""
    local = _mirror(folder) if is_uri(folder) else Path(folder)
    images = list_images(local, config.name)
    announce(f"found {images.num_images} images in {folder}")
    return images


def _mirror(uri: str) -> Path:
    target = visionops_home() / "remote" / mirror_name(uri)
    with progress("fetch", 0) as report:
        mirror_images(uri, target, lambda done, total: report(done, "", total))
    return target


# Not cached: the champion may have changed, and the tables may have been moved away.
@step(enable_cache=False)
def predict(
    images: Dataset, config: Config, output: str
) -> tuple[Annotated[BatchSummary, "batch"], Annotated[HTMLString, "batch_report"]]:
    """Answer for the unlabelled images with the champion, but for those it has answered before."""
    with (
        champion_bundle(config.name) as (champion, bundle),
        _prediction_log(config) as log,
        progress("predict", images.split_counts().get(Split.UNLABELLED.value, 0)) as report,
    ):
        summary = predict_batch(batch_predictor(bundle, config), images, Path(output), champion.version, report, log)
    log_metadata({"version": champion.version, "images": summary.images, "failed": summary.failed})
    announce(f"version {summary.version} answered for {summary.images - summary.failed} of {summary.images} images")
    return summary, HTMLString(render_batch_html(summary))


@contextmanager
def _prediction_log(config: Config) -> Iterator[PredictionLog | None]:
    """That of the use case's endpoint, so that monitoring sees these predictions, too."""
    try:
        folder = active_deployer().prediction_log(config.name) if config.serving.prediction_log else None
    except StackError:  # without a deployer nobody looks at a log
        folder = None
    if folder is None:
        yield None
        return
    log = PredictionLog(folder, store=config.serving.prediction_log_store)
    try:
        yield log
    finally:
        log.close()
        if lost := sum(log.counts.values()) - log.counts["written"]:
            announce(f"{lost} predictions are not in the prediction log: {log.problem or log.counts}")
