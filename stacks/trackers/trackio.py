"""Log runs in Trackio: to a database and files on this machine, or to your own server."""

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
        """Set Trackio's folder, which it reads only on import."""
        os.environ.setdefault(_FOLDER, str(visionops_home() / "trackio"))

    def prepare(self, tracker: Any, use_case: str) -> None:
        """Do nothing: Trackio creates its folder."""

    def settings(self, use_case: str) -> dict[str, Any]:
        """Return the settings of ZenML's component for a run."""
        return {"tags": [use_case]}

    def open_run(self) -> RunTracker:
        """Return the run that ZenML has opened for the step.

        Raises:
            StackError: No run is open.
        """
        from trackio import context_vars

        run = context_vars.current_run.get()
        if run is None:
            raise StackError("Trackio: no run is open; set experiment_tracker=True on the step")
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
        """Log a file; pictures and pages are shown next to the metrics."""
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
        """Set tags in the run's config, as Trackio has no tags."""
        self._note("tags", self._run.config.get(OWN, {}).get("tags", {}) | dict(tags))

    @contextmanager
    def child(self, name: str, end: RunEnd = RunEnd.FINISHED) -> Iterator[RunTracker]:
        """Open a run in the group of this one."""
        above = self._run
        # trackio.init would finish the open run.
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
            with contextlib.redirect_stdout(io.StringIO()):  # it prints a line at each end
                run.finish()

    def _note(self, key: str, value: Any) -> None:
        self._configure({OWN: self._run.config.get(OWN, {}) | {key: value}})

    def _configure(self, changes: Mapping[str, Any]) -> None:
        """Change the run's config and send it again, as Trackio sends it only with the run's first line."""
        run = self._run
        run.config.update(changes)
        with run._queue_lock:
            for line in run._queued_logs:  # of lines sent together, Trackio uses the first config
                line["config"] = None
        run._config_logged = False
        run.log({}, step=0)
