"""Train a model on labelled images, gate it and serve it."""

from __future__ import annotations

from zenml import pipeline
from zenml.enums import ExecutionMode

from pipelines.preparation import gate_and_release, prepare_data
from stacks.same_code import require_same_code
from steps.conversion import convert
from steps.review import index_images
from steps.training import train
from visionops.config import Config
from visionops.data.settings import ReviewSource

__all__ = ["training"]


# FAIL_FAST raises the step's own error; the other modes only raise "a step failed".
@pipeline(name="training", execution_mode=ExecutionMode.FAIL_FAST, on_init=require_same_code)
def training(config: Config, source_fingerprint: str) -> None:
    """Ingest, validate, prepare, convert, train, evaluate, register, gate, release; with a review, also index images.

    Each step gets only the sections that it reads, so that a change elsewhere does not run it again.
    """
    prepared, splits, reviewed = prepare_data(config, source_fingerprint, makes_version=True)
    converted = convert(prepared, config.conversion_plan)
    bundle = train(converted, splits, config.training_plan, **reviewed)
    version = gate_and_release(bundle, prepared, config)
    if isinstance(config.data.additions, ReviewSource):
        # The last step, because its errors must not delay a release.
        index_images(version, prepared, splits, config.data.additions, config.use_case, after="release_model")
