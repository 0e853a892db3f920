"""Run a search: get settings from the study, train with them, and report the result, until enough trials ended."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from visionops.data.dataset import Dataset
from visionops.data.files import atomic_folder
from visionops.errors import ConfigError, TrainingError
from visionops.home import visionops_home
from visionops.tasks.base import locked_folder, training_folder
from visionops.tasks.settings import TrainingPlan
from visionops.tasks.spec import TaskSpec, task_for
from visionops.tuning.data import SearchData
from visionops.tuning.ranges import distribution_of, pick, setting_of, settings_within
from visionops.tuning.records import importance_of, record_of, state_of, value_of
from visionops.tuning.report import write_report
from visionops.tuning.result import Setting, Trial, TrialState, TuningResult
from visionops.tuning.settings import SearchPlan, TuningConfig
from visionops.tuning.trial_settings import change_training
from visionops.tuning.trials import Job, Outcome, Workers, open_storage, outcome_of, quiet_optuna

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

__all__ = ["TuningLog", "require_search", "tune", "tuning_folder"]

_PATIENT_TRIALS = 5
"""Number of complete trials before pruning starts; trials are also never pruned in the first quarter of their
epochs."""

_CONVERTED = "converted"
"""Folder for data sets of trials with other conversion settings; removed at the end."""

_REPORTS = 50
"""Maximum number of epochs that a trial reports to the study: each report reads all trials."""


class _Named(Protocol):
    """A use case, or the part of it that a search reads."""

    @property
    def name(self) -> str: ...

    @property
    def tuning(self) -> TuningConfig: ...


class TuningLog(Protocol):
    """Log to which a search reports."""

    def trial(self, trial: Trial) -> None:
        """Report a trial that has ended, now or before an interruption."""

    def progress(self, done: int, total: int, note: str) -> None:
        """Report the number of ended trials of the total, with a note on what is running."""


def require_search(search: _Named) -> None:
    """Check that there is something to try.

    Raises:
        ConfigError: There is neither a space nor a grid.
    """
    if not search.tuning.space and not search.tuning.grid:
        raise ConfigError(
            f"{search.name}: nothing to tune; give tuning.space (as learning_rate: {{low: 0.0001, high: 0.01, log: "
            "true}) or tuning.grid (a list of settings)"
        )


def tuning_folder(dataset: Dataset, search: SearchPlan) -> Path:
    """Return the folder of the search: the same for comparable trials, so that the search can be resumed.

    Other data, other fixed settings of the training, another space, grid, metric or seed make another study. A change
    of the number of trials, of parallel trials, or of pruning continues the same study.
    """
    identity = {
        "data": dataset.fingerprint(),
        "training": search.plan.training.model_dump(mode="json"),
        "tuning": search.tuning.model_dump(mode="json", include={"space", "grid", "seed"}),
        "metric": search.metric,
    }
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    return visionops_home() / "tuning" / f"{search.name}-{key}"


def tune(task: TaskSpec[Any], data: SearchData, search: SearchPlan, folder: Path, log: TuningLog) -> TuningResult:
    """Try settings until `tuning.trials` have ended, or each set of `tuning.grid` has.

    Called again after an interruption, it resumes: ended trials are kept, and running ones are repeated.

    With one trial at a time the search is reproducible, interrupted or not: the settings depend on `tuning.seed`, the
    trial's place in the order and the earlier outcomes. With several at once they also depend on which of them ends
    first. Every trial trains with `training.seed`.

    Args:
        task: Task that trains; sent to other processes when `tuning.parallel` is above 1.
        data: Clean and split data. The test split is not used.
        folder: Folder of this search; see `tuning_folder`.

    Raises:
        ConfigError: Nothing to try, an unknown setting of the trainer, or a storage that cannot be opened.
        TrainingError: Every trial failed, or the same search is already running.
    """
    require_search(search)
    quiet_optuna()
    with locked_folder(folder):
        url = search.tuning.storage or f"sqlite:///{folder / 'study.db'}"
        with open_storage(url) as storage:
            study = _Search(task, data, search, folder, log, storage, url)
            study.run()
            result = study.result()
        shutil.rmtree(folder / _CONVERTED, ignore_errors=True)
    # A later search writes new files, because the old ones may be links into an earlier artifact.
    with atomic_folder(folder / "result", replace=True) as new:
        result.save(new)
        write_report(result, search.tuning.space, new)
    return result


class _Search:
    """A running study.

    User attributes hold what Optuna does not store of a trial: ``order`` (its place, which seeds the sampler), ``row``
    (of the grid), ``default``, ``settings``, ``work`` (its training folder), ``kept`` (the folder existed before the
    search), ``machine`` (that runs it), ``note`` and ``seconds``; ``cut`` when it was interrupted and is to be
    repeated.
    """

    def __init__(
        self,
        task: TaskSpec[Any],
        data: SearchData,
        search: SearchPlan,
        folder: Path,
        log: TuningLog,
        storage: optuna.storages.RDBStorage,
        url: str,
    ) -> None:
        import optuna

        self._task = task
        self._data = data
        self._dataset = data.dataset
        self._plan = search.plan
        self._tuning = search.tuning
        self._folder = folder
        self._log = log
        self._storage = storage
        self._url = url
        self._machine = _machine(folder)
        self._metric = search.metric
        self._minimises = not task_for(search.plan.task).metric(search.metric).higher_is_better
        self._grid = search.tuning.grid
        self._wanted = len(self._grid) or search.tuning.trials
        self._defaults = {key: setting_of(search.plan, key) for key in search.tuning.space}
        self._ranges = {key: distribution_of(search.plan, key, found) for key, found in search.tuning.space.items()}
        self._study = optuna.create_study(
            study_name=folder.name,
            storage=storage,
            direction="minimize" if self._minimises else "maximize",
            load_if_exists=True,
        )
        self._trials: list[FrozenTrial] = []
        self._read()

    def run(self) -> None:
        """Run trials until enough have ended."""
        self._repeat_cut_trials()
        self._enqueue_missing()
        for ended in self._ended():
            self._log.trial(record_of(ended))
            self._tidy(ended)
        self._report("")
        running: dict[Future[Outcome], list[optuna.Trial]] = {}
        with Workers(self._tuning.parallel, self._report) as workers:
            while True:
                while len(running) < self._tuning.parallel and self._missing() > 0:
                    self._begin(workers, running)
                if not running:
                    break
                ready, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ready:
                    for trial in running.pop(future):
                        self._end(trial, outcome_of(future))

    def result(self) -> TuningResult:
        """Return the result of the trials that have ended.

        Raises:
            TrainingError: All trials failed. They are set aside, so that the next search repeats them.
        """
        trials = tuple(record_of(trial) for trial in self._ended())
        best = self._best()
        if best is None:
            self._study.set_user_attr("aside", [trial.number for trial in self._study.trials])
            first = trials[0]
            raise TrainingError(
                f"{self._plan.name}: all {len(trials)} trials failed; trial {first.number}: {first.note}"
            )
        default = next((trial for trial in trials if trial.is_default), None)
        return TuningResult(
            folder=self._folder / "result",
            use_case=self._plan.name,
            study=self._study.study_name,
            metric=self._metric,
            minimises=self._minimises,
            settings={} if best.user_attrs.get("default") else best.user_attrs["settings"],
            best=best.number,
            value=value_of(best),
            default_value=default.value if default else None,
            importance=importance_of(self._ended(), self._tuning.seed),
            trials=trials,
        )

    def _read(self) -> None:
        """Read all trials that count, without those that are repeated."""
        aside = set(self._study.user_attrs.get("aside", ()))
        trials = self._study.get_trials(deepcopy=False)
        self._trials = [t for t in trials if t.number not in aside and "cut" not in t.user_attrs]

    def _ended(self) -> list[FrozenTrial]:
        return [trial for trial in self._trials if trial.state.is_finished()]

    def _missing(self) -> int:
        from optuna.trial import TrialState as Optunas

        return self._wanted - sum(trial.state is not Optunas.WAITING for trial in self._trials)

    def _best(self) -> FrozenTrial | None:
        """Return the first of the best trials, so that settings change only for an improvement."""
        complete = [trial for trial in self._ended() if state_of(trial) is TrialState.COMPLETE]
        sign = -1 if self._minimises else 1
        return max(complete, key=lambda trial: (sign * value_of(trial), -trial.number), default=None)

    def _repeat_cut_trials(self) -> None:
        """Repeat our trials that are marked as running: this process is alone in its folder, so they were killed."""
        from optuna.trial import TrialState as Optunas

        repeated = {trial.user_attrs.get("repeats") for trial in self._trials}
        for trial in self._trials:
            if trial.state is not Optunas.RUNNING or trial.user_attrs.get("machine", self._machine) != self._machine:
                continue
            if "settings" in trial.user_attrs and trial.number not in repeated:
                attributes = {key: value for key, value in trial.user_attrs.items() if key != "machine"}
                self._study.enqueue_trial(dict(trial.params), attributes | {"repeats": trial.number})
            self._storage.set_trial_user_attr(trial._trial_id, "cut", True)
            self._study.tell(trial.number, state=Optunas.FAIL)
        self._read()

    def _enqueue_missing(self) -> None:
        """Enqueue each row of the grid; for a space, first the settings of the use case as the baseline."""
        orders = {trial.user_attrs.get("order") for trial in self._trials}
        if self._grid:
            for row, settings in enumerate(self._grid):
                if row not in orders:
                    default = all(setting_of(self._plan, key) == value for key, value in settings.items())
                    extra = {"default": True} if default else {}
                    self._study.enqueue_trial(dict(settings), {"order": row, "row": row, **extra})
        elif 0 not in orders:
            self._study.enqueue_trial(settings_within(self._defaults, self._ranges), {"order": 0, "default": True})
        self._read()

    def _begin(self, workers: Workers, running: dict[Future[Outcome], list[optuna.Trial]]) -> None:
        trial = self._ask()
        work = trial.user_attrs["work"]
        if twin := next((t for t in self._ended() if t.user_attrs.get("work") == work), None):
            for step, value in twin.intermediate_values.items():
                trial.report(value, step)
            self._end(trial, Outcome(state_of(twin), twin.value, twin.user_attrs.get("note", "")))
            return
        for others in running.values():
            if others[0].user_attrs["work"] == work:
                others.append(trial)
                return
        try:
            job = self._job(trial)
        except TrainingError as error:  # its data cannot be converted with these settings
            self._end(trial, Outcome(TrialState.FAILED, note=str(error)))
            return
        running[workers.submit(job)] = [trial]

    def _ask(self) -> optuna.Trial:
        """Return the next trial with its settings."""
        import optuna

        self._read()
        orders = {trial.user_attrs.get("order") for trial in self._trials}
        order = next(number for number in itertools.count() if number not in orders)
        # A sampler keeps its random state only in memory: after a restart, one seed for all would propose the same
        # again.
        self._study.sampler = optuna.samplers.TPESampler(seed=_seed(self._tuning.seed, order))
        trial = self._study.ask()
        known = dict(trial.user_attrs)
        trial.set_user_attr("machine", self._machine)
        trial.set_user_attr("order", known.get("order", order))
        settings = self._suggest(trial, known)
        work = training_folder(self._dataset, self._changed(settings, known))
        trial.set_user_attr("kept", known.get("kept", work.exists()))
        trial.set_user_attr("work", work.name)
        trial.set_user_attr("settings", settings)
        self._read()
        return trial

    def _suggest(self, trial: optuna.Trial, known: dict[str, Any]) -> dict[str, Setting]:
        if "row" in known:
            settings = self._grid[known["row"]]
            for key in settings:
                trial.suggest_categorical(key, _distinct(row[key] for row in self._grid if key in row))
            return dict(settings)
        if "default" in known:
            for key in settings_within(self._defaults, self._ranges):
                pick(trial, key, self._ranges[key])
            return self._defaults
        return {key: pick(trial, key, found) for key, found in self._ranges.items()}

    def _changed(self, settings: dict[str, Setting], known: dict[str, Any]) -> TrainingPlan:
        if "default" in known:
            return self._plan
        training = change_training(self._plan.training, settings, f"trial of {self._plan.name}")
        return self._plan.model_copy(update={"training": training})

    def _job(self, trial: optuna.Trial) -> Job:
        attributes = trial.user_attrs
        plan = self._changed(attributes["settings"], attributes)
        return Job(
            task=self._task,
            converted=self._data.converted_for(plan, self._folder / _CONVERTED),
            plan=plan,
            work=training_folder(self._dataset, plan),
            metric=self._metric,
            storage=self._url,
            study=self._study.study_name,
            number=trial.number,
            trial_id=trial._trial_id,
            pruner=self._pruner(),
            every=-(-self._plan.training.planned_epochs // _REPORTS),
        )

    def _pruner(self) -> optuna.pruners.BasePruner | None:
        """Return the pruner; None for a grid, where every set of settings needs its value."""
        import optuna

        if self._grid or not self._tuning.pruning:
            return None
        return optuna.pruners.MedianPruner(_PATIENT_TRIALS, n_warmup_steps=self._plan.training.planned_epochs // 4)

    def _end(self, trial: optuna.Trial, outcome: Outcome) -> None:
        from optuna.trial import TrialState as Optunas

        trial.set_user_attr("seconds", outcome.seconds)
        trial.set_user_attr("note", outcome.note)
        before = self._best()
        match outcome.state:
            case TrialState.COMPLETE:
                self._study.tell(trial, outcome.value)
            case TrialState.PRUNED:
                self._study.tell(trial, state=Optunas.PRUNED)
            case TrialState.FAILED:
                self._study.tell(trial, state=Optunas.FAIL)
        self._read()
        ended = next(t for t in self._trials if t.number == trial.number)
        self._log.trial(record_of(ended))
        self._tidy(ended)
        if before is not None:
            self._tidy(before)
        self._report(outcome.note)

    def _tidy(self, trial: FrozenTrial) -> None:
        """Remove the training folder of an inferior trial; keep the logs of a failed one."""
        best = self._best()
        name = trial.user_attrs["work"]
        if trial.user_attrs["kept"] or (best is not None and best.user_attrs["work"] == name):
            return
        work = training_folder(self._dataset, self._plan).parent / name
        logs = work.glob("*.log") if state_of(trial) is TrialState.FAILED else ()
        texts = {log.name: log.read_bytes() for log in logs}
        shutil.rmtree(work, ignore_errors=True)
        if texts:
            work.mkdir()
        for log, text in texts.items():
            (work / log).write_bytes(text)

    def _report(self, note: str) -> None:
        best = self._best()
        found = f"best {self._metric} {value_of(best):.4f}" if best else ""
        self._log.progress(len(self._ended()), self._wanted, " | ".join(filter(None, (found, note))))


def _distinct(values: Iterator[Any]) -> list[Any]:
    return list({repr(value): value for value in values}.values())


def _seed(seed: int, order: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {order}".encode()).digest()[:4], "big")


def _machine(folder: Path) -> str:
    """Return a name of this machine, or rather of this folder, in a shared storage."""
    file = folder / "machine"
    if not file.is_file():
        file.write_text(uuid.uuid4().hex, encoding="utf-8")
    return file.read_text(encoding="utf-8")
