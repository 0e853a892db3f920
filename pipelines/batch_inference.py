"""Predict unlabelled images with the champion and write tables."""

from __future__ import annotations

from zenml import pipeline
from zenml.enums import ExecutionMode

from pipelines.validation import shard_id
from stacks.same_code import require_same_code
from steps.batch import collect, join_answers, predict, predict_shard
from steps.data import ingest
from visionops.config import Config
from visionops.registry import RegisteredVersion

__all__ = ["batch_inference"]


# FAIL_FAST raises the step's own error; the other modes only raise "a step failed".
@pipeline(name="batch_inference", execution_mode=ExecutionMode.FAIL_FAST, on_init=require_same_code)
def batch_inference(
    config: Config, source_fingerprint: str, folder: str, output: str, champion: RegisteredVersion, shards: int
) -> None:
    """Predict the images below ``folder``, or for "" the unlabelled images of the use case's own data.

    With more than one shard, each is a separate step, and an orchestrator of pods runs them in parallel.
    """
    use_case, serving = config.use_case, config.serving
    images = collect(use_case, folder) if folder else ingest(config.data, use_case, source_fingerprint)
    if shards == 1:
        predict(images, use_case, serving, folder, output, champion)
        return
    answers = [
        predict_shard(images, use_case, serving, folder, output, champion, n, shards, id=shard_id("predict", n, shards))
        for n in range(shards)
    ]
    join_answers(answers, output, champion)
