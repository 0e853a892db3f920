from __future__ import annotations

import math

import pytest
from PIL import Image

from tests.tuning.quadratic import search_plan
from visionops.errors import DataError
from visionops.tuning.report import settings_text, write_report
from visionops.tuning.result import Trial, TrialState, TuningResult


def result(trials, **more):
    best = max((t for t in trials if t.value is not None), key=lambda t: t.value)
    values = {"use_case": "toy", "study": "toy-1", "metric": "balanced_accuracy", "settings": best.settings}
    return TuningResult(**values, best=best.number, value=best.value, trials=tuple(trials), **more)


def trial(number, value, **settings):
    state = TrialState.FAILED if value is None else TrialState.COMPLETE
    note = "the loss is <not> a number" if value is None else ""
    return Trial(number=number, state=state, settings=settings, value=value, note=note)


def test_saved_and_read_again(tmp_path):
    trials = [trial(0, 0.5, a=None, b=True, c=0.1), trial(3, None, a="x", b=False, c=2), trial(4, 0.7, a="y", c=3)]
    made = result(trials, default_value=0.5, importance={"a": 1.0})
    made.save(tmp_path)
    read = TuningResult.load(tmp_path)
    assert read.folder == tmp_path
    assert read.model_copy(update={"folder": made.folder}) == made
    assert type(read.trials[1].settings["c"]) is int
    assert read.trials[0].settings["b"] is True


@pytest.mark.parametrize("text", [None, "", "{}", "[1"])
def test_another_file_is_refused_in_one_line(tmp_path, text):
    if text is not None:
        (tmp_path / "tuning.json").write_text(text)
    with pytest.raises(DataError, match=r"tuning.json: not a saved tuning result .*; run the tuning again") as caught:
        TuningResult.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "trials",
    [
        [trial(0, 0.5, learning_rate=0.1)],
        [trial(0, 0.5)],
        [trial(0, 0.5, learning_rate=0.1), trial(1, None, learning_rate=0.2), trial(2, 0.5, optimizer="SGD")],
        [trial(i, 0.1 * i, learning_rate=10.0**-i, batch=2**i, crop=None, fliplr=i / 7) for i in range(8)],
    ],
    ids=["one", "no settings", "of different settings", "many"],
)
def test_the_report_shows_every_trial_and_its_pictures_can_be_opened(tmp_path, trials):
    space = {"learning_rate": {"low": 1e-9, "high": 1, "log": True}}
    write_report(result(trials), search_plan({"space": space}).tuning.space, tmp_path)
    html = (tmp_path / "report.html").read_text()
    assert html.count("<tr class=") == len(trials)
    assert "&lt;not&gt;" in html or all(t.value is not None for t in trials)
    pictures = sorted(tmp_path.glob("*.png"))
    assert html.count("data:image/png;base64,") == len(pictures) >= 1
    for path in pictures:
        with Image.open(path) as image:
            assert min(image.size) > 200


def test_settings_in_one_line():
    assert settings_text({"a": 0.123456, "b": True, "c": None, "d": "x", "e": 7}) == "a=0.1235, b=true, c=-, d=x, e=7"
    assert settings_text({}) == "none changed"
    assert settings_text({"rate": 1 / math.pi * 1e-5}) == "rate=3.183e-06"
