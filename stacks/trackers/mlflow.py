"""Log runs in MLflow."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stacks.trackers.experiments import ensure_experiment
from visionops.errors import StackError
from visionops.home import visionops_home
from visionops.tracking import RunEnd, RunTracker

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["MlflowAdapter", "MlflowRun"]

_LONGEST = 6000
"""Maximum length of a parameter's value in MLflow, in characters."""
_STATUS = {RunEnd.FINISHED: "FINISHED", RunEnd.STOPPED: "KILLED", RunEnd.FAILED: "FAILED"}


class MlflowAdapter:
    """A `TrackerAdapter`: an experiment for each use case, a run for each run of a pipeline."""

    def set_environment(self) -> None:
        """Do nothing: ZenML's component sets up MLflow."""

    def prepare(self, tracker: Any, use_case: str) -> None:
        """Create the experiment with our artifact location.

        Raises:
            StackError: As `ensure_experiment`.
        """
        ensure_experiment(str(tracker.get_tracking_uri()), use_case, visionops_home() / "mlflow" / "artifacts")

    def settings(self, use_case: str) -> dict[str, Any]:
        """Return the settings of ZenML's component for a run."""
        return {"experiment_name": use_case}

    def open_run(self) -> RunTracker:
        """Return the run that ZenML has opened for the step.

        Raises:
            StackError: No run is open.
        """
        import mlflow

        run = mlflow.active_run()
        if run is None:
            raise StackError("MLflow: no run is open; set experiment_tracker=True on the step")
        return MlflowRun(mlflow.MlflowClient(), run.info.run_id, run.info.experiment_id)


class MlflowRun:
    """A `RunTracker` on an MLflow run."""

    def __init__(self, client: MlflowClient, run_id: str, experiment_id: str) -> None:
        self._client = client
        self._id = run_id
        self._experiment = experiment_id

    def params(self, params: Mapping[str, Any]) -> None:
        """Log parameters; very long values are cut."""
        from mlflow.entities import Param

        self._client.log_batch(self._id, params=[Param(key, str(value)[:_LONGEST]) for key, value in params.items()])

    def metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._id, [Metric(name, value, now, step or 0) for name, value in metrics.items()])

    def artifact(self, path: Path, folder: str = "") -> None:
        """Log a file."""
        self._client.log_artifact(self._id, str(path), folder or None)

    def artifacts(self, source: Path, folder: str) -> None:
        """Log the files of a folder."""
        self._client.log_artifacts(self._id, str(source), folder)

    def tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        self._client.log_batch(self._id, tags=[RunTag(key, value) for key, value in tags.items()])

    def link(self, name: str, url: str) -> None:
        """Set the tag ``link.NAME``."""
        self.tags({f"link.{name}": url})

    @contextmanager
    def child(self, name: str, end: RunEnd = RunEnd.FINISHED) -> Iterator[RunTracker]:
        """Open a run that MLflow shows below this one."""
        tags = {"mlflow.parentRunId": self._id, "mlflow.runName": name}
        run = self._client.create_run(self._experiment, tags=tags)
        status = _STATUS[RunEnd.FAILED]
        try:
            yield MlflowRun(self._client, run.info.run_id, self._experiment)
            status = _STATUS[end]
        finally:
            self._client.set_terminated(run.info.run_id, status)
