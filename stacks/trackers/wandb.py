"""Log runs in Weights & Biases, or in its files in offline mode."""

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


class WandbAdapter:
    """A `TrackerAdapter`: a run for each step, grouped by the run of the pipeline, tagged with the use case."""

    def set_environment(self) -> None:
        """Keep W&B from reporting its own errors to its vendor, unless the environment enables it."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

    def prepare(self, tracker: Any, use_case: str) -> None:
        """Create the folder of offline runs, because without it W&B writes below /tmp."""
        del use_case
        if folder := tracker.config.init_kwargs.get("dir"):
            try:
                Path(folder).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StackError(
                    f"{folder}: cannot create the folder for W&B ({error.strerror}); set init_kwargs.dir"
                ) from error

    def settings(self, use_case: str) -> dict[str, Any]:
        """Return the settings of ZenML's component for a run."""
        return {"tags": [use_case]}

    def open_run(self) -> RunTracker:
        """Return the run that ZenML has opened for the step.

        Raises:
            StackError: There is none.
        """
        import wandb

        if wandb.run is None:
            raise StackError("W&B: no run is open; set experiment_tracker=True on the step")
        return WandbRun(wandb.run)


class WandbRun(FileByFile):
    """A `RunTracker` on a run of W&B."""

    def __init__(self, run: Run) -> None:
        self._run = run
        # W&B drops values that are late for its own step counter, which pictures also advance.
        run.define_metric("*", step_metric=_EPOCH)

    def params(self, params: Mapping[str, Any]) -> None:
        """Log parameters, as the run's config."""
        self._run.config.update({key: plain(value) for key, value in params.items()}, allow_val_change=True)

    def metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics; those without a step go to the summary."""
        if step is None:
            self._run.summary.update(dict(metrics))
        else:
            self._run.log({**metrics, _EPOCH: step})

    def artifact(self, path: Path, folder: str = "") -> None:
        """Log a file; pictures and pages are shown in panels."""
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
        """Set tags in the run's config, as tags of W&B have no value."""
        self._note("tags", self._run.config.get(OWN, {}).get("tags", {}) | dict(tags))

    @contextmanager
    def child(self, name: str, end: RunEnd = RunEnd.FINISHED) -> Iterator[RunTracker]:
        """Open a run in the group of this one."""
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
        below = WandbRun(run)
        try:
            yield below
            ended = end
        finally:
            below._note("end", ended.value)
            run.finish(exit_code=int(ended is RunEnd.FAILED))

    def _note(self, key: str, value: Any) -> None:
        self._run.config.update({OWN: self._run.config.get(OWN, {}) | {key: value}}, allow_val_change=True)
