"""Log runs to a Weights & Biases (W&B) server, or to local files in offline mode."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stacks.trackers.files import OWN, FileByFile, is_page, is_picture, plain
from visionops.errors import StackError
from visionops.tracking import RunEnd, RunTracker

if TYPE_CHECKING:
    from wandb.sdk.wandb_run import Run

__all__ = ["WandbAdapter", "WandbRun"]

_EPOCH = "epoch"
"""Name of the metric that is the x-axis of all other metrics."""


class WandbAdapter:
    """A `TrackerAdapter` with one W&B run per step, grouped by pipeline run and tagged with the use case."""

    def set_environment(self) -> None:
        """Disable W&B's error reports to its vendor, unless WANDB_ERROR_REPORTING is already set."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

    def prepare(self, tracker: Any, use_case: str) -> None:
        """Create the folder for offline runs. If it were missing, W&B would write to /tmp."""
        del use_case
        if folder := tracker.config.init_kwargs.get("dir"):
            try:
                Path(folder).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StackError(
                    f"{folder}: cannot create the folder for W&B ({error.strerror}); set init_kwargs.dir"
                ) from error

    def settings(self, use_case: str) -> dict[str, Any]:
        """Return the settings of ZenML's experiment tracker for a run of this use case."""
        return {"tags": [use_case]}

    def open_run(self) -> RunTracker:
        """Return the run that ZenML has opened for the step.

        Raises:
            StackError: No run is open.
        """
        import wandb

        if wandb.run is None:
            raise StackError("W&B: no run is open; set experiment_tracker=True on the step")
        return WandbRun(wandb.run)


class WandbRun(FileByFile):
    """A `RunTracker` that logs to an open W&B run."""

    def __init__(self, run: Run) -> None:
        self._run = run
        # Our epochs cannot be W&B's steps: each picture also adds a step, and W&B drops metrics of earlier steps.
        run.define_metric("*", step_metric=_EPOCH)

    def params(self, params: Mapping[str, Any]) -> None:
        """Log parameters to the run's config."""
        self._run.config.update({key: plain(value) for key, value in params.items()}, allow_val_change=True)

    def metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics of an epoch; without ``step``, write them to the run's summary."""
        if step is None:
            self._run.summary.update(dict(metrics))
        else:
            self._run.log({**metrics, _EPOCH: step})

    def artifact(self, path: Path, folder: str = "") -> None:
        """Log a file. W&B shows pictures and HTML pages in panels, and only stores other files."""
        import wandb

        name = f"{folder}/{path.name}" if folder else path.name
        if is_picture(path):
            self._run.log({name: wandb.Image(str(path))})
        elif is_page(path):
            self._run.log({name: wandb.Html(path.read_text(encoding="utf-8"), inject=False)})
        else:
            copy = Path(self._run.dir) / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            self._run.save(str(copy), base_path=self._run.dir, policy="now")

    def tags(self, tags: Mapping[str, str]) -> None:
        """Store tags in the run's config, because W&B's own tags have no values."""
        self._set_own("tags", self._run.config.get(OWN, {}).get("tags", {}) | dict(tags))

    @contextmanager
    def child(self, name: str, end: RunEnd = RunEnd.FINISHED) -> Iterator[RunTracker]:
        """Open a W&B run for a trial, in the group of this run."""
        import wandb

        settings = self._run.settings
        run = wandb.init(
            entity=self._run.entity or None,
            project=self._run.project,
            name=name,
            group=self._run.group or self._run.name,
            job_type="trial",
            mode=settings.mode,
            dir=settings.root_dir,
            config={OWN: {"parent": self._run.id}},
            settings=wandb.Settings(console="off", silent=True),
            reinit="create_new",
        )
        ended = RunEnd.FAILED
        child = WandbRun(run)
        try:
            yield child
            ended = end
        finally:
            child._set_own("end", ended.value)
            run.finish(exit_code=int(ended is RunEnd.FAILED))

    def _set_own(self, key: str, value: Any) -> None:
        """Store a value that is not a parameter in the run's config, below `OWN`."""
        self._run.config.update({OWN: self._run.config.get(OWN, {}) | {key: value}}, allow_val_change=True)
