"""Turn unlabelled images into tables of predictions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from zenml import log_metadata, step
from zenml.types import HTMLString

from materializers.dataset import DatasetMaterializer
from materializers.shard_results import ShardMaterializer
from steps.context import active_deployer, is_store_local, version_bundle
from steps.progress import announce, progress
from visionops.batch.answers import BatchAnswers
from visionops.batch.images import list_images, named_images
from visionops.batch.inference import ask_images, batch_predictor
from visionops.batch.report import BatchSummary, render_batch_html
from visionops.batch.tables import write_tables
from visionops.data.dataset import Dataset, Split
from visionops.data.hashing import hash_images
from visionops.data.output import open_output
from visionops.data.remote import fetch_images, is_uri, list_remote, mirror_name
from visionops.data.shards import StoredDataset
from visionops.errors import StackError
from visionops.home import visionops_home
from visionops.inference.settings import ServingConfig, UseCase
from visionops.monitoring.log import PredictionLog
from visionops.registry import RegisteredVersion

__all__ = ["collect", "join_answers", "predict", "predict_shard"]


@step(enable_cache=False, output_materializers={"images": DatasetMaterializer})
def collect(use_case: UseCase, folder: str) -> Annotated[Dataset, "images"]:
    """List the images below a folder, or below a prefix of an object store, where they stay until predicted."""
    if is_uri(folder):
        images = named_images(list_remote(folder), use_case.name)
    else:
        images = list_images(Path(folder), use_case.name)
        if not is_store_local():  # their bytes are uploaded, addressed by content
            with progress("hash", images.num_images) as report:
                images = hash_images(images, lambda done, _: report(done))
    announce(f"found {images.num_images} images in {folder}")
    return images


# These steps are not cached, because the tables may have been moved away.
@step(enable_cache=False)
def predict(
    images: StoredDataset,
    use_case: UseCase,
    serving: ServingConfig,
    folder: str,
    output: str,
    champion: RegisteredVersion,
) -> tuple[Annotated[BatchSummary, "batch"], Annotated[HTMLString, "batch_report"]]:
    """Predict the unlabelled images with the champion, except those that it has already predicted."""
    summary = _joined([_answers(images, use_case, serving, folder, output, champion)], output, champion)
    return summary, HTMLString(render_batch_html(summary))  # ZenML looks for a tuple in the source


@step(enable_cache=False, output_materializers={"answers": ShardMaterializer})
def predict_shard(
    images: StoredDataset,
    use_case: UseCase,
    serving: ServingConfig,
    folder: str,
    output: str,
    champion: RegisteredVersion,
    shard: int,
    shards: int,
) -> Annotated[BatchAnswers, "answers"]:
    """Predict one of ``shards`` parts of the images, as `predict` does."""
    return _answers(images, use_case, serving, folder, output, champion, shard, shards)


@step(enable_cache=False)
def join_answers(
    answers: list[BatchAnswers], output: str, champion: RegisteredVersion
) -> tuple[Annotated[BatchSummary, "batch"], Annotated[HTMLString, "batch_report"]]:
    """Join the tables of all shards."""
    summary = _joined(answers, output, champion)
    return summary, HTMLString(render_batch_html(summary))


def _answers(
    stored: StoredDataset,
    use_case: UseCase,
    serving: ServingConfig,
    folder: str,
    output: str,
    champion: RegisteredVersion,
    shard: int = 0,
    shards: int = 1,
) -> BatchAnswers:
    part = stored.tables.select_split(Split.UNLABELLED).shard(shard, shards)
    images = _fetched(part, folder) if is_uri(folder) else stored.fetch(part)
    label = "predict" if shards == 1 else f"shard {shard + 1}/{shards}"
    with (
        version_bundle(champion) as bundle,
        _prediction_log(use_case, serving) as log,
        progress(label, images.num_images) as report,
    ):
        predictor = batch_predictor(bundle, serving)
        answers = ask_images(predictor, images, open_output(output), champion.version, report, log)
    log_metadata({"version": champion.version, "images": answers.rows.num_rows, "predicted": answers.predicted})
    return answers


def _joined(answers: list[BatchAnswers], output: str, champion: RegisteredVersion) -> BatchSummary:
    with version_bundle(champion) as bundle:
        summary = write_tables(answers, bundle.card, champion.version, open_output(output))
    log_metadata({"version": champion.version, "images": summary.images, "failed": summary.failed})
    announce(f"version {summary.version} predicted {summary.images - summary.failed} of {summary.images} images")
    return summary


def _fetched(images: Dataset, uri: str) -> Dataset:
    """Return the images with their bytes on this machine."""
    target, keys = visionops_home() / "remote" / mirror_name(uri), images.column("key")
    with progress("fetch", len(keys)) as report:
        fetch_images(uri, keys, target, lambda done, total: report(done, "", total))
    return images.replace_column("path", [str(target.absolute() / key) for key in keys])


@contextmanager
def _prediction_log(use_case: UseCase, serving: ServingConfig) -> Iterator[PredictionLog | None]:
    """Open the prediction log of the use case's endpoint, so that monitoring also reads these predictions."""
    try:
        folder = active_deployer().prediction_log(use_case.name) if serving.prediction_log else None
    except StackError:  # without a deployer nothing reads a log
        folder = None
    if folder is None:
        yield None
        return
    log = PredictionLog(folder, store=serving.prediction_log_store)
    try:
        yield log
    finally:
        log.close()
        if lost := sum(log.counts.values()) - log.counts["written"]:
            announce(f"{lost} predictions are not in the prediction log: {log.problem or log.counts}")
