"""Unlabelled images in, tables of the champion's predictions out."""

from __future__ import annotations

from zenml import pipeline
from zenml.enums import ExecutionMode

from steps.batch import collect, predict
from steps.data import ingest
from visionops.config import Config

__all__ = ["batch_inference"]


# FAIL_FAST raises the error of the step; the other modes raise "a step failed".
@pipeline(name="batch_inference", execution_mode=ExecutionMode.FAIL_FAST)
def batch_inference(config: Config, source_fingerprint: str, folder: str, output: str) -> None:
    """Predict the images below ``folder``, or where it is "" the unlabelled ones of the use case's own data."""
    images = collect(config.only(), folder) if folder else ingest(config.only("data"), source_fingerprint)
    predict(images, config.only("serving"), output)
