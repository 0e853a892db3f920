"""The gate: metrics, floors and resamples, and its error rates."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gate import GATE as DEFAULTS
from benchmarks.gate import simulate
from tests.helpers.tracking import evaluation
from visionops.errors import RegistryError
from visionops.gate.decision import GateDecision, class_figure, decide
from visionops.gate.settings import GateConfig

MARGIN_ALONE = GateConfig(minimum=0.5, margin=0.02, confidence=0)
NAN = math.nan


@pytest.mark.parametrize(
    ("challenger", "champion", "promote", "words"),
    [
        (0.49, None, False, "below the gate"),
        (0.50, None, True, "the first champion"),
        (0.49, 0.10, False, "below the gate"),
        (0.80, 0.79, False, "does not beat the champion's 0.790 by 0.020"),
        (0.82, 0.80, True, "beats the champion's 0.800"),
        (0.70, 0.80, False, "does not beat"),
        (0.80, NAN, False, "does not beat"),
    ],
)
def test_the_margin_alone(challenger, champion, promote, words):
    decision = decide(evaluation(challenger), None if champion is None else evaluation(champion), MARGIN_ALONE)
    assert decision.promote is promote
    assert words in decision.reason
    assert decision.challenger == challenger


def test_figures_from_different_test_splits_do_not_compare():
    with pytest.raises(RegistryError, match="different test splits"):
        decide(evaluation(0.9, "t2"), evaluation(0.8, "t1"), MARGIN_ALONE)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_only_a_better_model_is_promoted(challenger, champion, minimum, margin):
    gate = GateConfig(minimum=minimum, margin=margin, confidence=0)
    if decide(evaluation(challenger), evaluation(champion), gate).promote:
        assert challenger >= minimum
        assert challenger >= champion + margin - 1e-6


def test_nan_passes_no_gate():
    assert not decide(evaluation(NAN), None, GateConfig()).promote


def test_a_decision_of_an_earlier_release_still_loads():
    old = {"promote": True, "reason": "r", "metric": "map50", "challenger": 0.9, "minimum": 0.3, "margin": 0.005}
    assert GateDecision.model_validate(old).champion_version is None


# Resamples that keep a champion

SURE = GateConfig(minimum=0.5, margin=0.0, confidence=0.8)


def resampled(value, replicates, images=60):
    return dataclasses.replace(evaluation(value), num_images=images, replicates={"map50": tuple(replicates)})


@pytest.mark.parametrize(
    ("challenger", "champion", "promote", "words"),
    [
        ([0.82] * 100, [0.80] * 100, True, "in 100% of resamples"),
        ([0.82] * 81 + [0.7] * 19, [0.80] * 100, True, "in 81% of resamples"),
        ([0.82] * 80 + [0.7] * 20, [0.80] * 100, False, "but in only 80% of resamples"),
        ([0.82] * 799 + [0.7] * 201, [0.80] * 1000, False, "but in only 79% of resamples of the 60 test images"),
        ([0.70] * 100, [0.80] * 100, False, "in only 0%"),
        ([0.80] * 100, [0.80] * 100, False, "in only 0%"),
        ([0.82] * 79 + [0.80] * 21, [0.80] * 100, False, "in only 79%"),
        ([0.82] * 60 + [NAN] * 40, [0.80] * 90 + [NAN] * 10, True, "in 100%"),
        ([0.82] * 30 + [0.7] * 10 + [NAN] * 60, [0.80] * 100, False, "in only 75%"),
    ],
    ids=[
        "ahead",
        "ahead enough",
        "just not enough",
        "not often enough",
        "behind",
        "ties",
        "ties are not ahead",
        "undefined",
        "few",
    ],
)
def test_a_champion_is_replaced_only_when_the_challenger_is_ahead_in_most_resamples(
    challenger, champion, promote, words
):
    decision = decide(resampled(0.82, challenger), resampled(0.80, champion), SURE)
    assert decision.promote is promote
    assert words in decision.reason


@pytest.mark.parametrize(
    ("challenger", "champion", "words"),
    [
        ((), (), "map50 was not resampled.*evaluation.resamples of 25 or more.*gate.confidence: 0"),
        ([0.1] * 100, (), "has 100 resamples and the champion's 0, which do not pair.*run again with --no-cache"),
        ((), [0.9] * 100, "has 0 resamples and the champion's 100"),
        ([0.1] * 100, [0.9] * 200, "do not pair"),
        ([NAN] * 100, [0.9] * 100, "only 0 of 100 resamples define map50, 25 needed; add test images of every class"),
        ([0.9] * 10, [0.8] * 10, "10 resamples of the test images are too few, 25 needed; raise evaluation.resamples"),
    ],
    ids=["neither", "challenger alone", "champion alone", "another number", "never defined", "few"],
)
@pytest.mark.parametrize("max_loss", [None, 0.01])
def test_without_resamples_that_pair_no_champion_is_replaced(challenger, champion, words, max_loss):
    ours, theirs = resampled(0.82, challenger), resampled(0.80, champion)
    decision = decide(ours, theirs, SURE, max_loss=max_loss)
    assert not decision.promote
    assert re.search(words, decision.reason)
    alone = decide(ours, theirs, SURE.model_copy(update={"confidence": 0}), max_loss=max_loss)
    assert alone.promote
    assert "only the margin counts" in alone.reason


@pytest.mark.parametrize(("images", "promote"), [(1, False), (24, False), (25, True)])
@pytest.mark.parametrize("max_loss", [None, 0.01])
def test_too_few_test_images_replace_no_champion(images, promote, max_loss):
    # With one image every resample is that image: a model that is ahead on it is ahead in all of them.
    new, old = (resampled(value, [value] * 100, images) for value in (1.0, 0.9))
    decision = decide(new, old, GateConfig(), max_loss=max_loss)
    assert decision.promote is promote
    assert promote or f"{images} test images are too few to replace a champion (25 needed" in decision.reason
    assert decide(new, None, GateConfig()).promote, "the first champion replaces nobody"


def test_no_resample_helps_a_challenger_within_the_margin():
    gate = SURE.model_copy(update={"margin": 0.05})
    decision = decide(resampled(0.82, [0.82] * 100), resampled(0.80, [0.80] * 100), gate)
    assert not decision.promote
    assert "does not beat the champion's 0.800 by 0.050" in decision.reason


@pytest.mark.parametrize(
    ("value", "replicates", "promote", "words"),
    [
        (0.78, (), False, "refused: map50 0.780 misses the champion's 0.800 by more than 0.010"),
        (0.79, [0.79] * 100, True, "promoted: map50 0.790 is within 0.010 of the champion's 0.800, in 100% of resam"),
        (0.9, [0.9] * 100, True, "is within 0.010"),
        (0.80, [0.80] * 70 + [0.7] * 30, False, "but in only 70% of resamples"),
        (0.4, (), False, "below the gate of 0.500"),
    ],
)
def test_a_cheaper_challenger_may_lose_a_little(value, replicates, promote, words):
    champion = resampled(0.80, [0.80] * len(replicates))
    decision = decide(resampled(value, replicates), champion, SURE, max_loss=0.01)
    assert decision.promote is promote
    assert words in decision.reason
    assert decision.margin == -0.01


def test_noise_replaces_no_champion():
    # Two models with the same skill, 0.9, on the same 60 images: by luck the second is right on two more.
    champion, challenger = np.zeros(60), np.zeros(60)
    champion[:53], challenger[3:58] = 1, 1
    draws = np.random.default_rng(0).integers(0, 60, (1000, 60))
    old, new = (resampled(hits.mean(), hits[draws].mean(axis=1).tolist()) for hits in (champion, challenger))
    assert decide(new, old, MARGIN_ALONE).promote
    decision = decide(new, old, GateConfig(minimum=0.5, margin=0.02))
    assert not decision.promote
    assert "of resamples of the 60 test images (more than 95% needed): that may be chance" in decision.reason


def test_error_rates_on_simulated_classifiers():
    """Check a few rates; the full tables are in `python -m benchmarks.gate` and docs/decisions/021-gate.md."""
    shares = [simulate(600, 0.03, effect, 500, 100, DEFAULTS) for effect in (0.02, 0, -0.02)]
    assert shares[0] >= 0.8
    assert shares[1] <= 0.05
    assert shares[2] == 0


# Classes

PER_CLASS = {"dent": {"map50": 0.9, "instances": 40}, "crack": {"map50": 0.2, "instances": 12}}


def with_classes(value, per_class):
    return dataclasses.replace(evaluation(value), per_class=per_class)


@pytest.mark.parametrize(
    ("floors", "words"),
    [
        (None, ""),
        (0.2, ""),
        (0.3, "refused: map50 of crack 0.200 is below gate.per_class_minimum of 0.300"),
        ({"crack": 0.25}, "map50 of crack 0.200 is below gate.per_class_minimum of 0.250"),
        ({"dent": 0.9}, ""),
        ({"crak": 0.1}, "names 'crak', the model knows dent, crack"),
    ],
)
@pytest.mark.parametrize("champion", [None, 0.1])
def test_a_floor_of_each_class(floors, words, champion):
    gate = MARGIN_ALONE.model_copy(update={"per_class_minimum": floors})
    theirs = None if champion is None else evaluation(champion)
    decision = decide(with_classes(0.8, PER_CLASS), theirs, gate)
    assert decision.promote is (not words)
    assert words in decision.reason


def test_a_class_without_test_images_is_a_warning_and_a_refusal_where_it_is_named():
    ours = with_classes(0.8, PER_CLASS | {"rust": {"map50": NAN, "instances": 0}})
    anywhere = decide(ours, None, MARGIN_ALONE.model_copy(update={"per_class_minimum": 0.1}))
    assert anywhere.promote
    assert anywhere.warnings == (
        "gate.per_class_minimum: map50 of rust is not defined, because the test split has no image of it",
    )
    named = decide(ours, None, MARGIN_ALONE.model_copy(update={"per_class_minimum": {"rust": 0.1}}))
    assert not named.promote
    assert "map50 of rust is not defined" in named.reason


@pytest.mark.parametrize(("old", "warned"), [(0.2, False), (0.3, False), (0.31, True), (NAN, False)])
def test_a_class_that_falls_far_below_the_champions_is_a_warning(old, warned):
    theirs = with_classes(0.5, {"dent": {"map50": 0.1}, "crack": {"map50": old}, "gone": {"map50": 1.0}})
    decision = decide(with_classes(0.8, PER_CLASS), theirs, MARGIN_ALONE)
    assert decision.promote, "the mean is better"
    assert bool(decision.warnings) is warned
    if warned:
        assert decision.warnings == ("map50 of crack 0.200 is far below the champion's 0.310, 12 in test",)


@pytest.mark.parametrize(
    ("metric", "figures", "name"),
    [
        ("map50", {"map50": 0.1, "recall": 0.2}, "map50"),
        ("precision", {"map50": 0.1, "precision": 0.2, "recall": 0.3}, "precision"),
        ("balanced_accuracy", {"precision": 0.1, "recall": 0.2, "f1": 0.3}, "recall"),
        ("f1", {"precision": 0.1, "recall": 0.2, "f1": 0.3}, "f1"),
        ("roc_auc", {"precision": 0.1, "recall": 0.2, "f1": 0.3}, "recall"),
        ("balanced_accuracy", {"accuracy": 0.1, "balanced_accuracy": 0.2, "f1": 0.3}, "balanced_accuracy"),
    ],
    ids=["detection", "detection", "classification", "classification", "areas", "attributes"],
)
def test_the_metric_of_a_class(metric, figures, name):
    assert class_figure(figures, metric) == (name, figures[name])
