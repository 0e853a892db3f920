"""Test the contract of tracker adapters: a real training and a search, read back from the tracker's store."""

from __future__ import annotations

import hashlib
import json

import pytest

from steps.run_log import RunLog
from steps.tuning_log import RunTuningLog
from tests.tuning.quadratic import Quadratic, search_data, search_plan
from visionops.tracking import RunEnd
from visionops.tuning.search import tune

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow, W&B and Trackio warn of their own code


def silent(_done, _note="", _total=None):
    pass


def test_a_real_training_is_read_back_whole(store, tape):
    with store.opened("training") as run:
        tape.play(RunLog(run, silent))
    found = store.read("training")
    assert found.params == {name: str(value) for name, value in tape.params_told.items()}
    assert sorted(found.epochs) == [1, 2]
    assert found.epochs == tape.epochs
    pictures = {"confusion_matrix.png", "BoxPR_curve.png", "label_audit.png", "results.csv", "trainer.log"}
    assert {f"training/{name}" for name in pictures} <= set(found.files)
    assert found.files == {name: hashlib.sha256(p.read_bytes()).hexdigest() for name, p in tape.files.items()}


def test_parameters_may_come_after_the_epochs_as_those_of_a_classifier_do(store):
    with store.opened("late") as run:
        run.metrics({"val_accuracy": 0.25, "val_colour.accuracy": 0.5}, 1)
        run.metrics({"val_accuracy": 0.75, "val_colour.accuracy": 1.0}, 2)
        run.params({"backbone": "cnn", "layers": [3, 4], "dropout": None, "frozen": True, "lr": 1e-05})
    found = store.read("late")
    assert found.params == {
        "backbone": "cnn",
        "layers": "[3, 4]",
        "dropout": "None",
        "frozen": "True",
        "lr": "1e-05",
    }
    assert found.epochs == {
        1: {"val_accuracy": 0.25, "val_colour.accuracy": 0.5},
        2: {"val_accuracy": 0.75, "val_colour.accuracy": 1.0},
    }


def test_an_evaluation_is_a_folder_with_figures_of_the_whole_run(store, tmp_path):
    folder = tmp_path / "evaluation"
    (folder / "worst images").mkdir(parents=True)
    (folder / "report.html").write_text("<html><body>Ä &amp; b</body></html>", encoding="utf-8")
    (folder / "evaluation.json").write_text("{}")
    (folder / "worst images" / "1.csv").write_text("a,b\n")
    with store.opened("evaluation") as run:
        run.metrics({"test_map50": 0.5, "test_recall": 0.0})
        run.artifacts(folder, "evaluation")
        run.tags({"kind": "evaluation"})
        run.link("pipeline", "https://zenml.example/runs/1")
        run.tags({"champion": "3"})
    found = store.read("evaluation")
    assert found.final == {"test_map50": 0.5, "test_recall": 0.0}
    assert found.epochs == {}
    assert set(found.files) == {
        "evaluation/report.html",
        "evaluation/evaluation.json",
        "evaluation/worst images/1.csv",
    }
    page = (folder / "report.html").read_bytes()
    assert found.files["evaluation/report.html"] == hashlib.sha256(page).hexdigest()
    assert found.tags == {"kind": "evaluation", "champion": "3", "link.pipeline": "https://zenml.example/runs/1"}


def test_a_search_has_a_run_for_each_trial_below_its_own(store, tmp_path):
    task = Quadratic(tmp_path / "diary", fails_at=(24,))
    plan = search_plan({"grid": [{"batch": 24}, {"batch": 12}, {"batch": 8}]}, epochs=3)
    with store.opened("search") as run:
        log = RunTuningLog(run, silent, "map50")
        result = tune(task, search_data(plan), plan, tmp_path / "search", log)
        log.finish(result)
        run.metrics({"after": 1.0})  # the parent run is still open
    found = store.read("search")
    prefix = "search " if store.flavor == "trackio" else ""
    assert [child.name for child in found.children] == [f"{prefix}trial {number}" for number in range(3)]
    assert [child.end for child in found.children] == ["failed", "finished", "finished"]
    assert [child.params for child in found.children] == [{"batch": "24"}, {"batch": "12"}, {"batch": "8"}]
    assert [child.tags["visionops.trial"] for child in found.children] == ["failed", "complete", "complete"]
    assert found.children[0].tags["visionops.trial.note"] == "the loss is not a number"
    last = found.children[2]
    assert {step: row["val_map50"] for step, row in last.epochs.items()} == result.trials[2].curve
    assert last.final["val_map50_final"] == result.value
    assert "seconds" in last.final
    assert found.final == {"best_val_map50": result.value, "after": 1.0}
    assert {"best.json", "tuning/tuning.json", "tuning/report.html", "tuning/history.png"} <= set(found.files)
    assert found.tags["best.batch"] == "8"
    assert json.loads(found.tags["visionops.tuning.best"])["trial"] == 2


def test_a_run_below_that_raises_has_failed(store):
    with store.opened("above") as run:
        run.metrics({"loss": 3.0}, 1)
        with pytest.raises(ZeroDivisionError):
            fail_in(run.child("below", RunEnd.STOPPED))
        with run.child("other", RunEnd.STOPPED) as below:
            below.metrics({"loss": 2.0}, 1)
    found = {child.name.split()[-1]: child for child in store.read("above").children}
    assert {name: child.end for name, child in found.items()} == {"below": "failed", "other": "stopped"}
    assert found["below"].epochs == {1: {"loss": 1.0}}


def fail_in(child):
    with child as run:
        run.metrics({"loss": 1.0}, 1)
        raise ZeroDivisionError
