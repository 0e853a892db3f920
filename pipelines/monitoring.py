"""Compare recent predictions with the reference, decide whether to retrain, and notify."""

from __future__ import annotations

from zenml import pipeline
from zenml.enums import ExecutionMode

from stacks.same_code import require_same_code
from steps.monitoring import compare_traffic, decide_retraining, estimate_performance, notify, score_labelled_traffic
from visionops.config import Config

__all__ = ["monitoring"]


# FAIL_FAST raises the step's own error; the other modes only raise "a step failed".
@pipeline(name="monitoring", execution_mode=ExecutionMode.FAIL_FAST, on_init=require_same_code)
def monitoring(config: Config, is_requested: bool, tells: bool) -> None:
    """Compare the champion's latest predictions with those of the val split, score it, and decide.

    A decided training is the next run, an unchanged `--pipeline training` with its gate.
    """
    drift, _ = compare_traffic(config.use_case, config.monitoring, config.serving)
    labelled = score_labelled_traffic(config.data, config.validation.without_shards(), config.scoring)
    estimate, _ = estimate_performance(labelled, config.monitoring, config.scoring)
    policy = config.monitoring.policy
    observation, decision = decide_retraining(drift, labelled, estimate, config.use_case, policy, is_requested)
    if tells:
        notify(drift, observation, decision, config.use_case, policy)
