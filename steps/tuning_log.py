"""A search in MLflow: the run that ZenML's tracker opened for the step, and in it a run for each trial."""

from __future__ import annotations

import json
from typing import Any

import mlflow
from mlflow.entities import Metric, Param, Run, RunTag

from steps.progress import Report
from visionops.errors import VisionOpsError
from visionops.tuning.report import setting_text
from visionops.tuning.result import Trial, TrialState, TuningResult

__all__ = ["MlflowTuningLog", "newest_tuning"]

_BEST = "visionops.tuning.best"
"""Tag of a finished search: the best settings, as JSON."""
_FINISHED = "visionops.tuning"
"""Tag by which a finished search is found: "finished"."""
_STATUS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAILED: "FAILED"}


class MlflowTuningLog:
    """A `TuningLog`; trials on the terminal, too."""

    def __init__(self, report: Report, metric: str) -> None:
        run = mlflow.active_run()
        assert run is not None  # the step has a tracker
        self._report = report
        self._parent: Run = run
        self._metric = metric
        self._client = mlflow.MlflowClient()

    def trial(self, trial: Trial) -> None:
        """Log one, with its settings and its metric per epoch, below the run of the search."""
        tags = {
            "mlflow.parentRunId": self._parent.info.run_id,
            "mlflow.runName": f"trial {trial.number}",
            "visionops.trial": trial.state.value,
        }
        if trial.note:
            tags["visionops.trial.note"] = trial.note[:5000]
        run = self._client.create_run(self._parent.info.experiment_id, tags=tags)
        name, now = f"val_{self._metric}", run.info.start_time
        metrics = [Metric(name, value, now, step) for step, value in sorted(trial.curve.items())]
        if trial.value is not None:
            metrics.append(Metric(f"{name}_final", trial.value, now, 0))
        metrics.append(Metric("seconds", trial.seconds, now, 0))
        params = [Param(key, str(value)[:6000]) for key, value in trial.settings.items()]
        self._client.log_batch(run.info.run_id, metrics=metrics, params=params)
        self._client.set_terminated(run.info.run_id, _STATUS[trial.state])

    def progress(self, done: int, total: int, note: str) -> None:  # noqa: ARG002 - the bar knows its total
        """Move the bar."""
        self._report(done, note)

    def finish(self, result: TuningResult) -> None:
        """Say what is best, where `newest_tuning` looks for it."""
        found = {"settings": result.settings, "value": result.value, "default_value": result.default_value}
        told: dict[str, Any] = found | {"metric": result.metric, "trial": result.best, "study": result.study}
        mlflow.log_dict(told, "best.json")
        mlflow.log_artifacts(str(result.folder), artifact_path="tuning")
        mlflow.log_metric(f"best_val_{result.metric}", result.value)
        tags = [RunTag(f"best.{key}", setting_text(value)) for key, value in result.best_trial.settings.items()]
        self._client.log_batch(
            self._parent.info.run_id, tags=[*tags, RunTag(_BEST, json.dumps(told)), RunTag(_FINISHED, "finished")]
        )


def newest_tuning(tracking_uri: str, use_case: str) -> dict[str, Any]:
    """What the newest finished search of a use case came to.

    Returns:
        ``settings`` (dotted key under ``training`` to value), ``metric``, ``value``, ``default_value``, ``trial``.

    Raises:
        VisionOpsError: There is none, or the tracker does not answer.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        client = mlflow.MlflowClient(tracking_uri)
        experiment = client.get_experiment_by_name(use_case)
        wanted = f"tags.`{_FINISHED}` = 'finished'"
        order = ["attributes.start_time DESC"]
        found = client.search_runs([experiment.experiment_id], wanted, max_results=1, order_by=order)
    except (MlflowException, SQLAlchemyError) as error:
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise VisionOpsError(f"--tuned: the tracker does not answer ({cause[:200]})") from error
    if not found:
        raise VisionOpsError(f"--tuned: {use_case} has no finished tuning; run the same command with --pipeline tuning")
    told: dict[str, Any] = json.loads(found[0].data.tags[_BEST])
    return told
