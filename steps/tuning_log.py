"""Log a search in the experiment tracker: in the run that is open for the step, with a child run for each trial."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from steps.progress import Report
from visionops.tracking import RunEnd, RunTracker
from visionops.tuning.report import setting_text
from visionops.tuning.result import Trial, TrialState, TuningResult

__all__ = ["RunTuningLog"]

_LONGEST_NOTE = 5000
_END = {TrialState.COMPLETE: RunEnd.FINISHED, TrialState.PRUNED: RunEnd.STOPPED, TrialState.FAILED: RunEnd.FAILED}


class RunTuningLog:
    """A `TuningLog` that also prints trials to the terminal."""

    def __init__(self, run: RunTracker, report: Report, metric: str) -> None:
        self._run = run
        self._report = report
        self._metric = metric

    def trial(self, trial: Trial) -> None:
        """Log a trial, with its settings and its metric per epoch, as a child of the search's run."""
        name = f"val_{self._metric}"
        note = {"visionops.trial.note": trial.note[:_LONGEST_NOTE]} if trial.note else {}
        with self._run.child(f"trial {trial.number}", _END[trial.state]) as run:
            run.tags({"visionops.trial": trial.state.value} | note)
            run.params(trial.settings)
            for step, value in sorted(trial.curve.items()):
                run.metrics({name: value}, step)
            final = {} if trial.value is None else {f"{name}_final": trial.value}
            run.metrics(final | {"seconds": trial.seconds})

    def progress(self, done: int, total: int, note: str) -> None:  # noqa: ARG002 - the bar has its total
        """Update the progress bar."""
        self._report(done, note)

    def finish(self, result: TuningResult) -> None:
        """Log the best settings."""
        found = {"settings": result.settings, "value": result.value, "default_value": result.default_value}
        best: dict[str, Any] = found | {"metric": result.metric, "trial": result.best, "study": result.study}
        with tempfile.TemporaryDirectory(prefix="visionops-tuning-") as folder:
            path = Path(folder) / "best.json"
            path.write_text(json.dumps(best, indent=2), encoding="utf-8")
            self._run.artifact(path)
        self._run.artifacts(result.folder, "tuning")
        self._run.metrics({f"best_val_{result.metric}": result.value})
        words = {f"best.{key}": setting_text(value) for key, value in result.best_trial.settings.items()}
        self._run.tags(words | {"visionops.tuning.best": json.dumps(best), "visionops.tuning": "finished"})
