import re

import pytest
from pydantic import ValidationError

from visionops.config import load_config
from visionops.errors import ConfigError
from visionops.tasks.classification.settings import LabelTraining

CASE = """\
name: parts
task: %s
data:
  source: {kind: folder, path: images}
  format: table
training:
  # what is learned
  %s
"""


def load(tmp_path, settings, task="classification"):
    path = tmp_path / "case.yaml"
    path.write_text(CASE % (task, settings), encoding="utf-8")
    return load_config(path).training


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("epochs: 5", "training.epochs: has no effect with learning: frozen, which solves for the heads"),
        ("optimizer: SGD", "training.optimizer: has no effect with learning: frozen"),
        ("augmentation: {fliplr: 0.1}", "training.augmentation: has no effect with learning: frozen"),
        ("dropout: 0.1", "training.dropout: has no effect with learning: frozen"),
        ("learning_rate: 0.1", "training.learning_rate: has no effect with learning: frozen"),
        ("filters: 8", "training.filters: has no effect with model: efficientnet_lite0 (cnn and residual have it)"),
        ("balance: sampler", "training.balance: frozen learning does not draw images; set weights"),
        ("weights: none", "training.weights: frozen needs pretrained weights; set learning: scratch"),
        ("model: cnn", "training.learning: cnn has no pretrained weights; set learning: scratch"),
        ("threshold: {precision: 0.5}", "training.threshold.precision: is only for recall_at_precision"),
    ],
)
def test_a_setting_without_effect_is_refused_on_its_line(tmp_path, settings, words):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, settings)
    line = 6 if settings == "model: cnn" else 8  # the setting to fix is not in that line
    assert f"case.yaml:{line}: {words}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"learning": "scratch", "l2": 0.1}, "l2: has no effect with learning: scratch"),
        ({"learning": "scratch", "views": "dihedral"}, "views: has no effect with learning: scratch"),
        ({"learning": "scratch", "weights": "a.pt"}, "weights: scratch starts from random weights"),
        ({"learning": "fine_tune", "weights": "none"}, "weights: fine_tune needs pretrained weights"),
        ({"learning": "scratch", "model": "residual", "kernel": 5}, "kernel: has no effect with model: residual"),
        ({"learning": "fine_tune", "head_weights": {"a": 2}}, "head_weights: has no effect with task: classification"),
        ({"task": "attributes", "head_weights": {"a": 2}}, "head_weights: has no effect with learning: frozen"),
        ({"task": "attributes", "learning": "fine_tune", "head_weights": {"a": 0}}, "head_weights: all are 0"),
    ],
)
def test_settings_that_contradict_each_other(settings, words):
    with pytest.raises(ValidationError, match=re.escape(words)):
        LabelTraining.model_validate({"task": "classification", **settings})


def test_every_setting_has_effect_somewhere():
    everywhere = [
        LabelTraining(),
        LabelTraining(task="attributes", model="cnn", learning="scratch"),
    ]
    idle = set.intersection(*(set(training.idle_settings()) for training in everywhere))
    assert not idle


def test_what_is_written_at_its_default_passes(tmp_path):
    assert load(tmp_path, "epochs: 30").epochs == 30


def test_settings_survive_being_written_and_read():
    dumped = LabelTraining(model="cnn", learning="scratch", filters=8, task="attributes").model_dump(mode="json")
    assert LabelTraining.model_validate(dumped).model_dump(mode="json") == dumped
