"""Runs in each experiment tracker, opened as ZenML opens them, and their content from an independent reader."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from visionops.tracking import RunTracker

__all__ = ["Logged", "Store", "Tape", "mlflow_store", "trackio_store", "wandb_store"]

_NO_METRICS = {"epoch", "step", "timestamp"}


@dataclasses.dataclass
class Logged:
    """A run as it was read back."""

    name: str
    params: dict[str, str] = dataclasses.field(default_factory=dict)
    epochs: dict[int, dict[str, float]] = dataclasses.field(default_factory=dict)
    """Metrics with a step above 0, by step."""
    final: dict[str, float] = dataclasses.field(default_factory=dict)
    """Metrics of the whole run."""
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    """SHA-256 of the bytes by path."""
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    end: str = ""
    children: list[Logged] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Store:
    """Store of a tracker's runs."""

    flavor: str
    opened: Callable[[str], Any]
    """``with opened(name)``: opens a run as ZenML's component does."""
    read: Callable[[str], Logged]
    """Function that reads the run of this name, with its child runs."""


class Tape:
    """A `TrainingLog` that records one real training and replays it to runs of many trackers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.params_told: dict[str, Any] = {}
        self.epochs: dict[int, dict[str, float]] = {}
        self.files: dict[str, Path] = {}

    def params(self, params: Mapping[str, Any]) -> None:
        self.params_told |= params

    def metrics(self, metrics: Mapping[str, float], step: int) -> None:
        self.epochs[step] = dict(metrics)

    def artifact(self, path: Path, folder: str) -> None:
        copy = self.folder / folder / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        self.files[f"{folder}/{path.name}"] = Path(shutil.copyfile(path, copy))

    def progress(self, done: int, total: int, note: str) -> None:
        pass

    def play(self, log: Any) -> None:
        """Replay the training in its original order."""
        log.params(self.params_told)
        for step, metrics in self.epochs.items():
            log.metrics(metrics, step)
            log.progress(step, len(self.epochs), "")
        for name, path in self.files.items():
            log.artifact(path, name.rpartition("/")[0])


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# MLflow


def mlflow_store(uri: str, experiment: str) -> Store:
    import mlflow

    @contextmanager
    def opened(name: str) -> Iterator[RunTracker]:
        from stacks.trackers.mlflow import MlflowAdapter

        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment(experiment)
        with mlflow.start_run(run_name=name):
            yield MlflowAdapter().open_run()

    def read(name: str) -> Logged:
        client = mlflow.MlflowClient(uri)
        place = client.get_experiment_by_name(experiment).experiment_id
        (run,) = client.search_runs([place], f"tags.mlflow.runName = '{name}'")
        found = _mlflow_run(client, run)
        below = client.search_runs([place], f"tags.mlflow.parentRunId = '{run.info.run_id}'")
        found.children = sorted((_mlflow_run(client, child) for child in below), key=lambda child: child.name)
        return found

    return Store("mlflow", opened, read)


def _mlflow_run(client: Any, run: Any) -> Logged:
    import mlflow

    found = Logged(run.info.run_name, params=dict(run.data.params))
    found.tags = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")}
    found.end = {"FINISHED": "finished", "KILLED": "stopped", "FAILED": "failed"}.get(run.info.status, "")
    for name in run.data.metrics:
        for point in client.get_metric_history(run.info.run_id, name):
            place = found.epochs.setdefault(point.step, {}) if point.step else found.final
            place[name] = point.value
    if not client.list_artifacts(run.info.run_id):
        return found
    folder = Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, tracking_uri=client.tracking_uri))
    found.files = {p.relative_to(folder).as_posix(): _digest(p) for p in folder.rglob("*") if p.is_file()}
    return found


# Weights & Biases


def wandb_store(folder: Path) -> Store:
    @contextmanager
    def opened(name: str) -> Iterator[RunTracker]:
        import wandb

        from stacks.trackers.wandb import WandbAdapter

        folder.mkdir(parents=True, exist_ok=True)
        settings = {"console": "off", "silent": True}
        wandb.init(project="visionops", name=name, group=name, mode="offline", dir=str(folder), settings=settings)
        try:
            yield WandbAdapter().open_run()
        finally:
            wandb.finish()

    def read(name: str) -> Logged:
        import wandb

        wandb.teardown()  # its process continues to write for a moment after a run has ended
        runs = [_wandb_run(path) for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"))]
        (found,) = [run for run in runs if run[1].name == name]
        key, run, _ = found
        run.children = sorted((child for _, child, parent in runs if parent == key), key=lambda child: child.name)
        return run

    return Store("wandb", opened, read)


def _wandb_run(path: Path) -> tuple[str, Logged, str]:
    """Return the id of a run, the run, and the id of its parent."""
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    store = DataStore()
    store.open_for_scan(str(path))
    config: dict[str, Any] = {}
    found, key = Logged(""), ""
    while (data := store.scan_data()) is not None:
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found.name, key = record.run.display_name, record.run.run_id
            config |= _pairs(record.run.config.update)
        elif kind == "config":
            config |= _pairs(record.config.update)
        elif kind == "history":
            row = _pairs(record.history.item)
            figures = {name: value for name, value in row.items() if _is_metric(name, value)}
            if figures:
                found.epochs[row["epoch"]] = figures
            for name, value in row.items():
                if isinstance(value, dict) and "path" in value:
                    found.files[name] = _digest(path.parent / "files" / value["path"])
        elif kind == "summary":
            row = _pairs(record.summary.update)
            found.final |= {name: value for name, value in row.items() if _is_metric(name, value)}
        elif kind == "files":
            for item in record.files.files:
                if item.path != "requirements.txt" and not item.path.startswith("media/"):
                    found.files[item.path] = _digest(path.parent / "files" / item.path)
    last = {name for figures in found.epochs.values() for name in figures}
    found.final = {name: value for name, value in found.final.items() if name not in last}
    own = config.pop("visionops", {})
    found.tags, found.end = own.get("tags", {}), own.get("end", "")
    found.params = {name: str(value) for name, value in config.items() if not name.startswith(("_", "zenml_"))}
    return key, found, own.get("parent", "")


def _pairs(items: Any) -> dict[str, Any]:
    """Return keys with their values; a nested key makes nested values."""
    found: dict[str, Any] = {}
    for item in items:
        first, *rest = item.nested_key or [item.key]
        place, last = found, first
        for name in rest:
            place = place.setdefault(last, {})
            last = name
        place[last] = json.loads(item.value_json)
    return found


def _is_metric(name: str, value: Any) -> bool:
    return isinstance(value, int | float) and name not in _NO_METRICS and not name.startswith("_")


# Trackio


def trackio_store(project: str) -> Store:
    """Return a store in the folder of the process, which Trackio reads once."""

    @contextmanager
    def opened(name: str) -> Iterator[RunTracker]:
        from stacks.trackers.trackio import TrackioAdapter

        TrackioAdapter().set_environment()
        import trackio

        trackio.init(project=project, name=name, resume="allow", auto_log_cpu=False, auto_log_gpu=False)
        try:
            yield TrackioAdapter().open_run()
        finally:
            trackio.finish()

    def read(name: str) -> Logged:
        from trackio.sqlite_storage import SQLiteStorage

        records = {str(record["id"]): str(record["name"]) for record in SQLiteStorage.get_run_records(project)}
        runs = {key: _trackio_run(project, key, run) for key, run in records.items()}
        ((key, (found, _)),) = [item for item in runs.items() if item[1][0].name == name]
        found.children = sorted((run for run, parent in runs.values() if parent == key), key=lambda run: run.name)
        return found

    return Store("trackio", opened, read)


def _trackio_run(project: str, key: str, name: str) -> tuple[Logged, str]:
    from trackio.sqlite_storage import SQLiteStorage
    from trackio.utils import MEDIA_DIR

    config = SQLiteStorage.get_run_config(project, name, run_id=key) or {}
    own = config.pop("visionops", {})
    found = Logged(name, tags=own.get("tags", {}), end=own.get("end", ""))
    config.pop("zenml", None)
    found.params = {k: str(value) for k, value in config.items() if not k.startswith("_")}
    for row in SQLiteStorage.get_logs(project, name, run_id=key):
        figures = {k: value for k, value in row.items() if _is_metric(k, value)}
        if figures:
            (found.epochs.setdefault(row["step"], {}) if row["step"] else found.final).update(figures)
        for k, value in row.items():
            if isinstance(value, dict) and "file_path" in value:
                found.files[k] = _digest(MEDIA_DIR / value["file_path"])
    for artifact in SQLiteStorage.get_run_artifacts(project, name, run_id=key)["output"]:
        manifest = SQLiteStorage.get_artifact_manifest(project, artifact["name"], f"v{artifact['version']}")
        for entry in manifest["manifest"]:
            found.files[entry["path"]] = entry["digest"].removeprefix("sha256:")
    return found, own.get("parent", "")
