"""Runs in Trackio: a database and files on this machine, or a server of one's own."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stacks.trackers.files import OWN, FileByFile, is_page, is_picture, plain
from visionops.errors import StackError
from visionops.home import visionops_home
from visionops.tracking import RunEnd, RunTracker

if TYPE_CHECKING:
    from trackio.run import Run

__all__ = ["TrackioAdapter", "TrackioRun"]

_FOLDER = "TRACKIO_DIR"
_NO_NAME = re.compile(r"[^A-Za-z0-9._-]+")


class TrackioAdapter:
    """A `TrackerAdapter`: a run for each step, named after the run of the pipeline."""

    def set_environment(self) -> None:
        """Set Trackio's folder, which it reads once, when it is imported."""
        os.environ.setdefault(_FOLDER, str(visionops_home() / "trackio"))

    def prepare(self, tracker: Any, use_case: str) -> None:
        """Nothing is needed: Trackio makes its folder."""

    def settings(self, use_case: str) -> dict[str, Any]:
        """Return what ZenML's component is given for a run."""
        return {"tags": [use_case]}

    def open_run(self) -> RunTracker:
        """Return the run that ZenML has opened for the step.

        Raises:
            StackError: There is none.
        """
        from trackio import context_vars

        run = context_vars.current_run.get()
        if run is None:
            raise StackError("Trackio: no run is open; give the step experiment_tracker=True")
        return TrackioRun(run)


class TrackioRun(FileByFile):
    """A `RunTracker` on a run of Trackio."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def params(self, params: Mapping[str, Any]) -> None:
        """Log parameters, as the run's config."""
        self._configure({key: plain(value) for key, value in params.items()})

    def metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics; those without a step have step 0, as in MLflow."""
        self._run.log(dict(metrics), step=step or 0)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Log a file; pictures and pages as what Trackio shows beside the metrics."""
        import trackio

        name = f"{folder}/{path.name}" if folder else path.name
        if is_picture(path):
            self._run.log({name: trackio.Image(path)})
        elif is_page(path):
            self._run.log({name: trackio.Html(path, inject=False)})
        else:
            kept = trackio.Artifact(_NO_NAME.sub("-", name), type="file")
            kept.add_file(path, name)
            self._run.log_artifact(kept)

    def tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, in the run's config: Trackio has none."""
        self._note("tags", self._run.config.get(OWN, {}).get("tags", {}) | dict(tags))

    @contextmanager
    def child(self, name: str, end: RunEnd = RunEnd.FINISHED) -> Iterator[RunTracker]:
        """Open a run in the group of this one."""
        above = self._run
        # Not by trackio.init, which finishes the run that is open.
        run = type(above)(
            url=above.url,
            project=above.project,
            client=None,
            name=f"{above.name} {name}",
            group=above.name,
            config={OWN: {"parent": above.id}},
            space_id=above._space_id,
            bucket_id=above._bucket_id,
            server_base_url=above._server_base_url,
            write_token=above._write_token,
        )
        ended = RunEnd.FAILED
        below = TrackioRun(run)
        try:
            yield below
            ended = end
        finally:
            below._note("end", ended.value)
            with contextlib.redirect_stdout(io.StringIO()):  # it announces each end there
                run.finish()

    def _note(self, key: str, value: Any) -> None:
        self._configure({OWN: self._run.config.get(OWN, {}) | {key: value}})

    def _configure(self, changes: Mapping[str, Any]) -> None:
        """Change the run's config, which Trackio sends once, with the first line of the run; ours may come later."""
        run = self._run
        run.config.update(changes)
        with run._queue_lock:
            for line in run._queued_logs:  # of lines that are sent together the first config counts
                line["config"] = None
        run._config_logged = False
        run.log({}, step=0)
