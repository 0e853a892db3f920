"""Run one trial, in this process or in one of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import multiprocessing
import multiprocessing.connection
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from visionops.background import background_priority
from visionops.errors import ConfigError, TrainingError
from visionops.inference.engines import available_cpus
from visionops.tasks.base import NoLog, StopTraining
from visionops.tasks.converted import ConvertedDataset
from visionops.tasks.settings import TrainingPlan
from visionops.tasks.spec import TaskSpec
from visionops.tuning.result import TrialState

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.storages import RDBStorage

__all__ = ["Job", "Outcome", "Workers", "open_storage", "run_trial"]

Notify = Callable[[str], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """Data that a process needs to run one trial."""

    task: TaskSpec[Any]
    converted: ConvertedDataset
    """Converted data set, shared with other trials."""
    plan: TrainingPlan
    """Training plan with the settings of the trial."""
    work: Path
    metric: str
    storage: str
    study: str
    number: int
    trial_id: int
    pruner: BasePruner | None
    every: int = 1
    """Only epochs that are multiples of this are reported."""


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """How a trial ended."""

    state: TrialState
    value: float | None = None
    note: str = ""
    seconds: float = 0.0


def run_trial(job: Job, notify: Notify | None = None) -> Outcome:
    """Train with the settings of the trial; an error that concerns only these settings makes a failed trial.

    Raises:
        VisionOpsError: The error would stop every other trial too, such as an unknown setting of the trainer.
    """
    start = time.perf_counter()
    try:
        with open_storage(job.storage, is_new=False) as storage, background_priority():
            bundle = job.task.train(job.converted, job.plan, job.work, _TrialLog(job, storage, notify))
        outcome = _judged(bundle.card.metrics, job.metric)
    except StopTraining:
        outcome = Outcome(TrialState.PRUNED)
    except TrainingError as error:
        outcome = Outcome(TrialState.FAILED, note=str(error))
    return dataclasses.replace(outcome, seconds=time.perf_counter() - start)


def _judged(metrics: Mapping[str, float], metric: str) -> Outcome:
    value = metrics.get(metric, math.nan)
    if math.isfinite(value):
        return Outcome(TrialState.COMPLETE, value)
    known = ", ".join(sorted(name for name, figure in metrics.items() if math.isfinite(figure)))
    return Outcome(
        TrialState.FAILED, note=f"its training gave no {metric} on the val split (it gave {known or 'none'})"
    )


class _TrialLog(NoLog):
    """Report each epoch to the study, and stop the training when the pruner decides so."""

    def __init__(self, job: Job, storage: RDBStorage, notify: Notify | None) -> None:
        import optuna

        self._study = optuna.load_study(study_name=job.study, storage=storage)
        self._storage = storage
        self._job = job
        self._notify = notify

    def metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Report one epoch."""
        value = metrics.get(f"val_{self._job.metric}", math.nan)
        if not math.isfinite(value) or step % self._job.every:
            return
        self._storage.set_trial_intermediate_value(self._job.trial_id, step, value)
        pruner = self._job.pruner
        if pruner is not None and pruner.prune(self._study, self._storage.get_trial(self._job.trial_id)):
            raise StopTraining

    def progress(self, done: int, total: int, note: str) -> None:
        """Forward the progress."""
        if self._notify:
            self._notify(f"trial {self._job.number}: {done}/{total} {note}")


class Workers:
    """Run jobs: in this process when there is one at a time, else each in a process of its own.

    A process is used for one job after the other, so that the heavy libraries are imported once in each.
    """

    def __init__(self, parallel: int, notify: Notify) -> None:
        self._parallel = parallel
        self._notify = notify
        self._pool: ProcessPoolExecutor | None = None
        self._others = set(multiprocessing.active_children())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is None:
            return
        if kind is not None:  # no one waits any more for trainings that may take hours
            for child in set(multiprocessing.active_children()) - self._others:
                child.kill()
        self._pool.shutdown(cancel_futures=True)

    def submit(self, job: Job) -> Future[Outcome]:
        """Begin a job; in this process, run it to the end."""
        if self._parallel == 1:
            future: Future[Outcome] = Future()
            future.set_result(run_trial(job, self._notify))
            return future
        if self._pool is None:
            self._pool = self._make_pool()
        try:
            return self._pool.submit(run_trial, job)
        except BrokenProcessPool:
            self._pool = self._make_pool()
            return self._pool.submit(run_trial, job)

    def _make_pool(self) -> ProcessPoolExecutor:
        # A forked process would inherit the locks of our threads.
        context = multiprocessing.get_context("spawn")
        threads = max(available_cpus() // self._parallel, 1)
        return ProcessPoolExecutor(self._parallel, context, initializer=_begin_worker, initargs=(threads,))


def outcome_of(future: Future[Outcome]) -> Outcome:
    """Return the outcome of a finished job; a job whose process died has failed.

    Raises:
        VisionOpsError: The error stops the search.
    """
    try:
        return future.result()
    except BrokenProcessPool:
        note = "a process of the search died, possibly out of memory; lower tuning.parallel or training.batch"
        return Outcome(TrialState.FAILED, note=note)


def _begin_worker(threads: int) -> None:
    """Prepare a process before torch is imported: share the cores, silence output, and end with the parent process."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    quiet_optuna()
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def quiet_optuna() -> None:
    """Silence Optuna's log, because our own lines report the trials."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)


@contextlib.contextmanager
def open_storage(url: str, *, is_new: bool = True) -> Iterator[RDBStorage]:
    """Open the storage of a study, and close it at the end.

    Args:
        is_new: Whether its tables may be missing, or may be those of another Optuna version.

    Raises:
        ConfigError: The storage cannot be opened.
    """
    import optuna
    import sqlalchemy.exc

    # Another process may be writing.
    engine: dict[str, Any] = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    try:
        storage = optuna.storages.RDBStorage(
            url, engine_kwargs=engine, skip_compatibility_check=not is_new, skip_table_creation=not is_new
        )
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"tuning.storage: {_explain(url, error)}") from error
    try:
        yield storage
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise ConfigError(f"tuning.storage: {_explain(url, error.__cause__ or error)}") from error
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _explain(url: str, error: BaseException) -> str:
    scheme, _, rest = url.partition("://")
    address = f"{scheme}://{rest.rpartition('@')[2]}" if rest else "not a database URL"
    cause = " ".join(str(error).split())
    for secret in (url, rest.rpartition("@")[0]):
        cause = cause.replace(secret, "…") if secret else cause
    return f"{address}: does not answer ({cause[:200]}); such as sqlite:////data/tuning.db or postgresql://host/name"
