"""Trials share a converted data set unless they change the conversion settings."""

from __future__ import annotations

import dataclasses

import pytest

from tests.tuning.quadratic import Notes, Quadratic, dataset, search_data, search_plan
from visionops.errors import TrainingError
from visionops.tasks.converted import ConvertedDataset
from visionops.tuning import data as data_module
from visionops.tuning.result import TrialState
from visionops.tuning.search import tune

GRID = [{"batch": 8}, *({"batch": batch, "tiles.size": size} for size in (64, 96) for batch in (8, 16))]
TILES = {"size": 128, "overlap": 8}


@dataclasses.dataclass(frozen=True)
class Remembers(Quadratic):
    """Task that records the data set of each training."""

    def train(self, converted, plan, work, log):
        with self.diary.with_suffix(".given").open("a", encoding="utf-8") as given:
            given.write(f"{converted.folder.name} {converted.plan == plan.conversion}\n")
        return super().train(converted, plan, work, log)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path / "home"))


@pytest.fixture
def conversions(monkeypatch):
    made = []

    def convert(prepared, plan, folder):
        if plan.training.tiles.size == 32:
            raise TrainingError("no tile of the train split has a box")
        made.append(plan.training.tiles.size)
        folder.mkdir(parents=True)
        return ConvertedDataset(prepared, plan, folder)

    monkeypatch.setattr(data_module, "convert", convert)
    return made


def test_each_set_of_settings_is_converted_once_and_removed_in_the_end(tmp_path, conversions):
    task = Remembers(tmp_path / "diary")
    result = tune(
        task,
        search_data(plan := search_plan({"grid": GRID}, epochs=1, tiles=TILES)),
        plan,
        tmp_path / "search",
        Notes(),
    )
    assert result.counts()["complete"] == 5
    assert conversions == [64, 96]
    given = [line.split() for line in (tmp_path / "diary.given").read_text().splitlines()]
    assert [fits for _, fits in given] == ["True"] * 5
    assert given[0][0] == "nowhere"  # that of the use case
    assert given[1] == given[2] != given[3] == given[4]
    assert not (tmp_path / "search" / "converted").exists()


def test_what_cannot_be_converted_is_a_failed_trial(tmp_path, conversions):
    task = Remembers(tmp_path / "diary")
    plan = search_plan({"grid": [{"tiles.size": 32}, {"batch": 8}]}, epochs=1, tiles=TILES)
    result = tune(task, search_data(plan), plan, tmp_path / "search", Notes())
    assert [trial.state for trial in result.trials] == [TrialState.FAILED, TrialState.COMPLETE]
    assert result.trials[0].note == "no tile of the train split has a box"


def test_no_image_comes_here_for_trials_that_share(tmp_path):
    plan = search_plan({"grid": [{"batch": 8}, {"learning_rate": 0.01}]}, epochs=1, tiles=TILES)
    data = dataclasses.replace(search_data(plan), prepared=lambda: pytest.fail("fetched"))
    tune(Remembers(tmp_path / "diary"), data, plan, tmp_path / "search", Notes())
    assert data.dataset.fingerprint() == dataset().fingerprint()
