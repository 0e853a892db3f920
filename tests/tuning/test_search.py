from __future__ import annotations

import json
import multiprocessing
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tuning.quadratic import Notes, Quadratic, dataset, score, search_data, search_plan
from visionops.errors import ConfigError, TrainingError
from visionops.tasks.base import locked_folder, training_folder
from visionops.tuning.result import TrialState
from visionops.tuning.search import require_search, tune, tuning_folder
from visionops.tuning.trial_settings import change_training

ROOT = Path(__file__).resolve().parents[2]
RATE = {"low": 1e-5, "high": 1.0, "log": True}
SPACE = {"learning_rate": RATE, "batch": {"low": 4, "high": 64, "step": 4}}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def task(tmp_path):
    return Quadratic(tmp_path / "diary")


def search(task, case, log=None):
    return tune(task, search_data(case), case, tuning_folder(dataset(), case), log or Notes())


def outline(result):
    return [(trial.settings, trial.state, trial.value) for trial in result.trials]


def test_the_settings_of_the_use_case_are_the_first_trial_and_the_best_beats_them(task):
    case = search_plan({"trials": 8, "space": SPACE, "pruning": False}, epochs=2)
    log = Notes()
    result = search(task, case, log)
    first = result.trials[0]
    assert (first.is_default, first.settings) == (True, {"learning_rate": 0.1, "batch": 16})
    assert first.value == result.default_value == score(case.plan.training)
    assert result.value == max(trial.value for trial in result.trials) > result.default_value
    assert result.best_trial.settings == result.settings
    assert result.value == score(change_training(case.plan.training, result.settings, "test"))
    assert result.counts() == {"complete": 8, "pruned": 0, "failed": 0}
    assert [trial.number for trial in log.trials] == list(range(8))
    assert log.lines[-1][:2] == (8, 8)
    assert set(result.importance) == set(SPACE)
    assert result.importance["learning_rate"] > result.importance["batch"]  # from the formula of `score`
    assert sum(result.importance.values()) == pytest.approx(1)


def test_whole_numbers_are_tried_where_a_setting_takes_nothing_else(task):
    space = {"batch": {"low": 4, "high": 40}, "epochs": {"low": 2, "high": 9, "step": 3}}
    result = search(task, search_plan({"trials": 8, "space": space}))
    tried = [trial.settings for trial in result.trials[1:]]
    assert all(type(s["batch"]) is int and s["epochs"] in {2, 5, 8} for s in tried)


def test_settings_out_of_reach_of_the_search_are_still_its_first_trial(task):
    result = search(task, search_plan({"trials": 3, "space": {"learning_rate": {"low": 0.001, "high": 0.002}}}))
    assert result.trials[0].settings == {"learning_rate": 0.1}
    assert result.default_value == score(search_plan({}).plan.training)


def test_nothing_is_changed_without_a_gain(task):
    case = search_plan(
        {"trials": 3, "space": {"learning_rate": {"choices": [0.9, 0.003]}}}, learning_rate=0.003, batch=8
    )
    result = search(task, case)
    assert (result.best, result.settings, result.value) == (0, {}, 1.0)


def test_each_row_of_a_grid_is_tried_once_and_none_is_pruned(task):
    rows = [{"learning_rate": 0.1, "batch": 16}, {"learning_rate": 0.004}, *({"batch": 8 * i} for i in range(3, 9))]
    result = search(task, search_plan({"grid": rows, "trials": 2}))
    assert [trial.settings for trial in result.trials] == rows
    assert result.counts()["complete"] == len(rows) == len(task.trainings())
    assert result.settings == {"learning_rate": 0.004}
    assert result.default_value == result.trials[0].value  # the first row equals the use case's settings


def test_bad_trials_are_pruned(task):
    result = search(task, search_plan({"trials": 14, "space": {"learning_rate": RATE}}))
    pruned = [trial for trial in result.trials if trial.state is TrialState.PRUNED]
    assert pruned
    complete = sorted(trial.value for trial in result.trials if trial.value is not None)
    for trial in pruned:
        assert 2 <= max(trial.curve) < 8  # not in the first quarter of eight epochs, and before the last
        assert score(search_plan({}, **trial.settings).plan.training) < complete[-1]


def test_a_failed_trial_is_noted_and_the_search_goes_on(tmp_path, home):
    task = Quadratic(tmp_path / "diary", fails_at=(24,))
    result = search(task, search_plan({"grid": [{"batch": 24}, {"batch": 8}]}))
    assert result.counts() == {"complete": 1, "pruned": 0, "failed": 1}
    assert result.trials[0].note == "the loss is not a number"
    logs = [path.name for path in (home / "training").rglob("*") if path.is_file() and path.suffix == ".log"]
    assert logs == ["trainer.log"]  # a person may want to know why


def test_all_failed_is_one_line_and_the_next_search_tries_again(tmp_path):
    case = search_plan({"grid": [{"batch": 24}, {"batch": 32}]})
    with pytest.raises(TrainingError, match="toy: all 2 trials failed; trial 0: the loss is not a number"):
        search(Quadratic(tmp_path / "diary", fails_at=(24, 32)), case)
    assert search(Quadratic(tmp_path / "diary"), case).counts()["complete"] == 2


def test_a_metric_that_the_training_does_not_give_is_said(tmp_path):
    task = Quadratic(tmp_path / "diary", metric="recall")
    with pytest.raises(TrainingError, match=r"gave no map50 on the val split \(it gave recall\)"):
        search(task, search_plan({"grid": [{"batch": 8}]}))


def test_only_the_winner_keeps_its_folder_and_training_finds_it(task, home):
    case = search_plan({"trials": 6, "space": SPACE})
    result = search(task, case)
    (kept,) = (home / "training").iterdir()
    training = change_training(case.plan.training, result.settings, "test")
    assert kept == training_folder(dataset(), case.plan.model_copy(update={"training": training}))
    assert (kept / "bundle" / "bundle.json").is_file()


def test_what_lay_there_before_the_search_stays(task, home):
    case = search_plan({"trials": 4, "space": SPACE})
    mine = training_folder(dataset(), case.plan)  # an interrupted training of the use case itself
    mine.mkdir(parents=True)
    assert search(task, case).best != 0
    assert mine.is_dir()


def test_the_same_settings_are_not_trained_twice(task):
    case = search_plan({"trials": 6, "space": {"learning_rate": {"choices": [0.1, 0.01]}}})
    result = search(task, case)
    assert len(result.trials) == 6
    assert len(task.trainings()) == 2


def test_more_trials_go_on_with_the_study_and_other_data_or_space_begin_another(task):
    fewer, more = (search_plan({"trials": n, "space": SPACE}, epochs=2) for n in (3, 5))
    before = search(task, fewer)
    after = search(task, more)
    assert outline(after)[:3] == outline(before)
    assert outline(after) == outline(search(task, more))
    assert len(task.trainings()) == 5 == len(after.trials)
    folders = {
        tuning_folder(dataset(), fewer),
        tuning_folder(dataset().replace_column("sha256", ["9" * 64] * 6), fewer),
        tuning_folder(dataset(), search_plan({"space": SPACE | {"patience": {"low": 1, "high": 4}}}, epochs=2)),
        tuning_folder(dataset(), search_plan({"space": SPACE}, epochs=3)),
        tuning_folder(dataset(), search_plan({"space": SPACE, "seed": 1}, epochs=2)),
        tuning_folder(dataset(), search_plan({"space": SPACE, "metric": "recall"}, epochs=2)),
    }
    assert len(folders) == 6
    assert tuning_folder(dataset(), more) in folders


def test_a_search_cut_in_two_tries_what_a_whole_one_does(task, tmp_path, monkeypatch):
    """A sampler with one seed for all trials would propose its first settings again after the interruption."""
    case = search_plan({"trials": 6, "space": SPACE}, epochs=2)
    whole = search(task, case)
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path / "other"))
    for trials in (2, 4):
        search(task, search_plan({"trials": trials, "space": SPACE}, epochs=2))
    assert outline(search(task, case)) == outline(whole)


KILLED = """
import sys
from tests.tuning.quadratic import Notes, Quadratic, dataset, search_data, search_plan
from visionops.tuning.search import tune, tuning_folder
from pathlib import Path
if __name__ == "__main__":
    case = search_plan({tuning!r})
    task = Quadratic(Path({diary!r}), dies_at={dies_at})
    tune(task, search_data(case), case, tuning_folder(dataset(), case), Notes())
"""


@pytest.mark.parametrize(
    "tuning", [{"trials": 5, "space": SPACE}, {"grid": [{"batch": b} for b in (4, 8, 12, 16)]}], ids=["space", "grid"]
)
def test_killed_half_way_it_goes_on_with_what_is_missing(task, tmp_path, monkeypatch, tuning):
    case = search_plan(tuning)
    whole = search(task, case)
    dies_at = whole.trials[3].settings["batch"]
    assert dies_at not in [trial.settings["batch"] for trial in whole.trials[:3]]

    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path / "other"))
    diary = tmp_path / "other-diary"
    script = KILLED.format(tuning=tuning, diary=str(diary), dies_at=dies_at)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert len(diary.read_text().splitlines()) == 4

    again = Quadratic(diary, dies_at=dies_at)
    result = search(again, case)
    assert outline(result) == outline(whole)
    assert len(again.trainings()) == 4 + len(whole.trials) - 3  # the fourth began twice, the others once
    assert 3 not in [trial.number for trial in result.trials]  # the one that was killed


def test_several_at_once_in_processes_of_their_own(tmp_path):
    task = Quadratic(tmp_path / "diary", fails_at=(64,))
    rows = [{"batch": b} for b in (4, 8, 12, 64)]
    before = multiprocessing.active_children()
    result = search(task, search_plan({"grid": rows, "parallel": 2}))
    assert [trial.settings for trial in result.trials] == rows
    assert [trial.value for trial in result.trials[:3]] == [
        score(search_plan({}, **row).plan.training) for row in rows[:3]
    ]
    assert result.trials[3].note == "the loss is not a number"
    assert str(multiprocessing.current_process().pid) not in {line.split()[0] for line in task.trainings()}
    assert multiprocessing.active_children() == before


def test_a_process_that_dies_is_a_failed_trial(tmp_path):
    task = Quadratic(tmp_path / "diary", dies_at=12)
    result = search(task, search_plan({"grid": [{"batch": b} for b in (12, 8, 16, 20)], "parallel": 2}))
    assert len(result.trials) == 4
    assert "lower tuning.parallel or training.batch" in result.trials[0].note
    # A dying process fails its trial, and timing decides which one. The others continue in new processes.
    others = result.trials[1:]
    assert sum(trial.value is None for trial in others) <= 1
    for trial in others:
        if trial.value is not None:
            assert trial.value == score(search_plan({}, batch=trial.settings["batch"]).plan.training)


def test_two_machines_share_a_storage(task, tmp_path, monkeypatch):
    """The second machine continues after the first, and ignores the running trials of the first."""
    import optuna

    storage = f"sqlite:///{tmp_path / 'shared.db'}"
    space = {"space": SPACE, "storage": storage}
    search(task, search_plan({"trials": 3, **space}))
    case = search_plan({"trials": 6, **space})
    name = tuning_folder(dataset(), case).name
    study = optuna.load_study(study_name=name, storage=storage)
    busy = study.ask()
    busy.set_user_attr("machine", "the first one")
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path / "second"))
    result = search(task, case)
    assert [trial.number for trial in result.trials] == [0, 1, 2, 4, 5]
    assert study.trials[busy.number].state is optuna.trial.TrialState.RUNNING
    study._storage.remove_session()
    study._storage._backend.engine.dispose()


def test_the_same_search_runs_once_at_a_time(task):
    case = search_plan({"trials": 2, "space": SPACE})
    with locked_folder(tuning_folder(dataset(), case)), pytest.raises(TrainingError, match="is already running"):
        search(task, case)


def test_nothing_to_try_is_one_line():
    with pytest.raises(ConfigError, match=r"toy: nothing to tune; give tuning.space .* or tuning.grid") as caught:
        require_search(search_plan({}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        ("sqlite:////nowhere/at/all.db", "sqlite:////nowhere/at/all.db: does not answer"),
        ("tuning.db", "not a database URL"),
        ("nosuch://me:secret@host/db", "nosuch://host/db"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_one_line_without_its_password(task, storage, words):
    with pytest.raises(ConfigError, match=r"^tuning\.storage: ") as caught:
        search(task, search_plan({"trials": 2, "space": SPACE, "storage": storage}))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_result_and_its_pictures_are_written_anew(task):
    """The files of a search may be linked into an artifact, which resuming must not change."""
    case = search_plan({"trials": 4, "space": SPACE})
    folder = search(task, case).folder
    first = (folder / "tuning.json").stat().st_ino
    assert {p.name for p in folder.iterdir()} == {
        "tuning.json", "report.html", "history.png", "importance.png", "parallel_coordinates.png"
    }  # fmt: skip
    kept = folder.parent / "linked.json"
    kept.hardlink_to(folder / "tuning.json")
    search(task, search_plan({"trials": 5, "space": SPACE}))
    assert (folder / "tuning.json").stat().st_ino != first
    assert len(json.loads(kept.read_text())["trials"]) == 4


def test_a_trainer_that_explains_every_error_lets_a_pruned_training_end(tmp_path):
    from visionops.tasks.base import StopTraining
    from visionops.tasks.workfolder import explained

    with pytest.raises(StopTraining), explained(search_plan({}).plan.training, tmp_path):
        raise StopTraining
    with (
        pytest.raises(TrainingError, match="the trainer stopped: KeyError"),
        explained(search_plan({}).plan.training, tmp_path),
    ):
        raise KeyError
