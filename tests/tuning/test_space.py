"""Valid and invalid settings under `tuning`, with errors before anything runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionops.config import load_config, with_training
from visionops.errors import ConfigError
from visionops.tuning.settings import SearchRange
from visionops.tuning.trial_settings import takes_whole_numbers

CASE = """\
name: toy
task: classification
data:
  source: {kind: folder, path: images}
  format: folders
training: {model: cnn, learning: scratch}
tuning:
  space:
    dropout: {low: 0, high: 0.5}
    %s
"""


def load(tmp_path, text):
    path = tmp_path / "case.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "learning_rat: {low: 0.1, high: 1}",
            "tuning.space.learning_rat: unknown key 'training.learning_rat'; did you",
        ),
        ("augmentation.flipl: {low: 0, high: 1}", "did you mean 'fliplr'?"),
        (
            "epochs: {low: 0, high: 5}",
            "tuning.space.epochs: expected 1 or more",
        ),
        ("epochs: {low: 1.5, high: 5}", "expected a whole number"),
        ("image_size: {low: 32, high: 4096}", "expected 1024 or less (got 4096)"),
        ("kernel: {low: 3, high: 7}", "expected 3, 5 or 7 (got 4"),
        ("kernel: {low: 3, high: 7, step: 1}", "expected 3, 5 or 7 (got 4)"),
        ("learning_rate: {low: 1, high: 0.1}", "low 1 is not below high 0.1"),
        ("learning_rate: {low: 0.1}", "give low and high, or choices"),
        ("learning_rate: {low: 0, high: 1, log: true}", "log needs low above 0"),
        ("learning_rate: {low: 0, high: 1, step: 2}", "step 2 is longer than the range"),
        ("learning_rate: {choices: [0.1]}", "choices need two values or more"),
        ("learning_rate: {choices: [0.1, 1], low: 1}", "give either choices, or low and high"),
        ("learning_rate: {lowest: 1, high: 2}", "unknown key 'tuning.space.learning_rate.lowest'"),
        ("optimizer: {choices: [Adam, Sdg]}", "expected AdamW, Adam or SGD; did you mean 'SGD'? (got 'Sdg')"),
        (
            "task: {choices: [classification, attributes]}",
            "tuning.space.task: belongs to the use case and cannot be tuned",
        ),
        ("learning: {choices: [scratch, frozen]}", "tuning.space.learning: cnn has no pretrained weights"),
        (
            "model: {choices: [residual, cnn]}\n    kernel: {choices: [3, 5]}",
            "tuning.space.kernel: has no effect with model",
        ),
        ("epochs.a: {low: 1, high: 2}", "'epochs' holds a value, not settings"),
    ],
)
def test_a_space_that_cannot_be_tried_names_line_and_fix(tmp_path, line, words):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, CASE % line)
    message = str(caught.value)
    assert ":10: " in message or ":11: " in message
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("rows", "line", "words"),
    [
        ("[{epochs: 3}, {epoch: 3}]", 8, "tuning.grid.1: unknown key 'training.epoch'; did you mean 'epochs'?"),
        ("[{epochs: 3}, {filters: 0}]", 8, "expected 1 or more (got 0)"),
        ("[{epochs: 3}, {filters: 8}, {epochs: 3}]", 8, "has the same settings as row 0"),
        ("[{epochs: 3}]\n  space: {epochs: {low: 1, high: 3}}", 7, "either a space to search or a grid"),
    ],
)
def test_a_grid_that_cannot_be_tried_names_line_and_fix(tmp_path, rows, line, words):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, CASE[: CASE.index("  space")] + f"  grid: {rows}\n")
    assert f":{line}: " in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "learning_rate: {low: 0.0001, high: 0.1, log: true}",
        "kernel: {low: 3, high: 7, step: 2}",
        "kernel: {choices: [3, 5]}",
        "image_size: {choices: [null, 64]}",
        "batch: {low: 4, high: 64, log: true}",
        "augmentation.degrees: {low: 0, high: 90}",
        "balance: {choices: [none, weights, sampler]}",
        "threshold.metric: {choices: [none, f1]}",
    ],
)
def test_what_can_be_tried_loads(tmp_path, line):
    assert len(load(tmp_path, CASE % line).tuning.space) == 2


def test_settings_that_fit_together_are_tried_though_one_does_not_fit_the_use_case(tmp_path):
    line = "model: {choices: [efficientnet_lite0, residual]}\n    weight_decay: {low: 0, high: 1}"
    assert len(load(tmp_path, CASE % line).tuning.space) == 3


def test_which_settings_take_whole_numbers(tmp_path):
    training = load(tmp_path, CASE % "epochs: {low: 1, high: 2}").training
    whole = [key for key in ("epochs", "batch", "image_size", "learning_rate", "dropout", "augmentation.scale")
             if takes_whole_numbers(training, key)]  # fmt: skip
    assert whole == ["epochs", "batch", "image_size"]


@given(low=st.integers(-50, 50), length=st.integers(1, 100), step=st.integers(1, 100), tenth=st.booleans())
def test_every_number_of_a_stepped_range_lies_on_its_steps(low, length, step, tenth):
    scale = 0.1 if tenth else 1.0
    if step > length:
        return
    found = SearchRange(low=low * scale, high=(low + length) * scale, step=step * scale)
    first, last, width = found.numbers(whole=False)
    count = (last - first) / width
    assert count == pytest.approx(round(count), abs=1e-6)
    assert first <= last <= found.high + 1e-9
    assert found.high - last < width + 1e-9
    assert len(found.examples(whole=False)) == (round(count) + 1 if round(count) < 64 else 3)
    if not tenth:
        assert {type(first), type(last), type(width)} == {int}


def test_settings_are_merged_as_the_file_would_say_them(tmp_path):
    config = load(tmp_path, CASE % "epochs: {low: 1, high: 2}")
    changed = with_training(config, {"epochs": 5.0, "augmentation.fliplr": 0.1, "image_size": None}, "--tuned")
    assert (changed.training.epochs, changed.training.augmentation.fliplr) == (5, 0.1)
    assert type(changed.training.epochs) is int
    assert changed.model_copy(update={"training": config.training}) == config
    with pytest.raises(ConfigError, match=r"^--tuned: unknown key 'training.epoch'; did you mean 'epochs'\?$"):
        with_training(config, {"epoch": 5}, "--tuned")
