from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from visionops.monitoring.policy import (
    Action,
    Estimate,
    Level,
    Observation,
    Performance,
    broken_level,
    decide,
    is_conclusive,
)
from visionops.monitoring.settings import PerformanceLevels, RetrainPolicy

CALM = Observation(
    images=400,
    drift_share=0,
    embedding_drifted=False,
    drift="",
    new_labels=120,
    age_days=10,
    hours_since_training=200,
)
POLICY = RetrainPolicy()


def seen(**changes) -> Observation:
    return CALM.model_copy(update=changes)


def test_calm_traffic_asks_for_nothing_and_says_what_was_looked_at():
    decision = decide(CALM, POLICY)
    assert decision.action is Action.NOTHING
    assert decision.sentence == "nothing to do: 0% of the columns drifted in 400 predictions, 120 new labels"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"drift_share": 0.3, "drift": "brightness fell"}, "30% of the columns drifted (brightness fell), 25% or more"),
        ({"embedding_drifted": True}, "the images as a whole differ"),
        ({"new_labels": 500}, "500 images were labelled since, 500 or more"),
        (
            {"performance": Performance(metric="map50", value=0.5, interval=(0.45, 0.55), at_test=0.65, images=30)},
            "map50 on labelled traffic is 0.500 (0.450 to 0.550), all below 0.600",
        ),
        ({"is_requested": True, "new_labels": 0, "hours_since_training": 0}, "it was requested"),
    ],
)
def test_each_reason_alone_leads_to_a_training(changes, reason):
    decision = decide(seen(**changes), POLICY)
    assert decision.action is Action.RETRAIN
    assert decision.sentence.startswith(f"train again: {reason}")


def test_an_old_champion_is_a_reason_where_the_policy_says_so():
    old = seen(age_days=91)
    assert decide(old, POLICY).action is Action.NOTHING
    assert decide(old, RetrainPolicy(max_age_days=90)).reasons == ("the champion is 91 days old, over 90",)


def test_a_drop_within_the_interval_is_chance():
    doubtful = Performance(metric="map50", value=0.5, interval=(0.30, 0.62), at_test=0.65, images=200)
    decision = decide(seen(performance=doubtful), POLICY)
    assert decision.action is Action.NOTHING
    assert "labelled traffic" not in decision.sentence


BAD = Performance(metric="recall", value=0.5, interval=(0.5, 0.5), at_test=0.8, images=200)


@pytest.mark.parametrize(
    ("changes", "policy", "why"),
    [
        ({"images": 2}, {}, "2 labelled images are too few to say (30 needed)"),
        ({"images": 29}, {}, "29 labelled images are too few to say (30 needed)"),
        ({"images": 99}, {"min_labelled": 100}, "99 labelled images are too few to say (100 needed)"),
        ({"interval": None}, {}, "there is no interval to judge it by (set evaluation.resamples)"),
        ({}, {"labels_are_chosen": True}, "the labelled images were selected, so they do not represent the traffic"),
    ],
)
def test_a_figure_that_says_nothing_calls_for_nothing_and_the_sentence_says_why(changes, policy, why):
    assert decide(seen(performance=BAD), POLICY).action is Action.RETRAIN
    bad = BAD.model_copy(update=changes)
    decision = decide(seen(performance=bad), RetrainPolicy(**policy))
    assert decision.action is Action.NOTHING
    assert decision.sentence.endswith(f"120 new labels; recall on labelled traffic is 0.500, but {why}")
    assert is_conclusive(BAD, POLICY)
    assert not is_conclusive(bad, RetrainPolicy(**policy))
    other_reason = decide(seen(performance=bad, embedding_drifted=True), RetrainPolicy(**policy))
    assert other_reason.action is Action.RETRAIN
    assert why in other_reason.sentence
    good = bad.model_copy(update={"value": 0.76})
    assert "labelled traffic" not in decide(seen(performance=good), RetrainPolicy(**policy)).sentence


def test_drift_without_new_labels_says_what_to_label_and_trains_nothing():
    decision = decide(seen(drift_share=0.5, drift="noise rose", new_labels=8), POLICY)
    assert decision.action is Action.ALERT
    assert decision.sentence == (
        "alert, no training: 50% of the columns drifted (noise rose), 25% or more; with 8 new labels "
        "training would give the same model; label at least 42 of the images that changed"
    )


def test_some_drift_is_only_an_alert():
    decision = decide(seen(drift_share=0.2), POLICY)
    assert decide(seen(drift_share=0.2), RetrainPolicy(warn_share=0.2)).action is Action.NOTHING
    assert decision.action is Action.ALERT
    assert decision.sentence.endswith("20% of the columns drifted; a training needs 25%")


def test_a_training_is_not_followed_by_the_next_at_once():
    decision = decide(seen(embedding_drifted=True, hours_since_training=3), POLICY)
    assert decision.action is Action.ALERT
    assert decision.sentence.endswith("the last training was 3 h ago; the next may begin in 21 h")


@pytest.mark.parametrize("wrong", [{"warn_share": 0.5}, {"new_labels": 10}, {"drift_shar": 0.1}, {"warn_share": -1}])
def test_a_policy_that_cannot_be_meant_is_refused(wrong):
    with pytest.raises(ValidationError):
        RetrainPolicy(**wrong)


@given(
    share=st.floats(0, 1),
    embedding=st.booleans(),
    labels=st.integers(0, 2000),
    hours=st.floats(0, 1000),
    requested=st.booleans(),
)
def test_a_training_has_a_reason_labels_and_its_time_or_was_requested(share, embedding, labels, hours, requested):
    observation = seen(
        drift_share=share,
        embedding_drifted=embedding,
        new_labels=labels,
        hours_since_training=hours,
        is_requested=requested,
    )
    decision = decide(observation, POLICY)
    assert decision.sentence
    assert (decision.action is Action.NOTHING) <= (not decision.reasons)
    if decision.action is Action.RETRAIN and not requested:
        assert decision.reasons
        assert labels >= POLICY.min_new_labels
        assert hours >= POLICY.cooldown_hours


def accuracy(low: float, high: float, **changes) -> Performance:
    value = (low + high) / 2
    values = {"metric": "accuracy", "value": value, "interval": (low, high), "at_test": value, "images": 200}
    return Performance(**values | changes)


@pytest.mark.parametrize(
    ("performance", "level"),
    [
        (accuracy(0.9, 0.95), None),
        (accuracy(0.8, 0.86), None),  # not the whole interval
        (accuracy(0.8, 0.84), Level.WARNING),
        (accuracy(0.7, 0.79), Level.CRITICAL),
        (accuracy(0.7, 0.79, metric="balanced_accuracy"), Level.CRITICAL),
        (accuracy(0.7, 0.79, metric="map50"), None),  # there is no level
        (accuracy(0.7, 0.79, images=29), None),
        (accuracy(0.7, 0.79, interval=None), None),
        (None, None),
    ],
)
def test_below_a_level_there_is_an_alert_and_no_training(performance, level):
    assert broken_level(performance, POLICY) is level
    decision = decide(seen(performance=performance), POLICY)
    assert decision.action is (Action.ALERT if level else Action.NOTHING)
    if level:
        bound = {Level.WARNING: "0.85", Level.CRITICAL: "0.8"}[level]
        assert decision.sentence.endswith(f"all below the {level} level of {bound}")


def test_levels_are_the_use_cases_own():
    strict = RetrainPolicy(levels={"map50": PerformanceLevels(warning=0.7)})
    poor = accuracy(0.6, 0.65)
    assert broken_level(poor, strict) is None
    assert broken_level(poor.model_copy(update={"metric": "map50"}), strict) is Level.WARNING
    assert broken_level(accuracy(0.1, 0.2), RetrainPolicy(levels={})) is None
    chosen = RetrainPolicy(labels_are_chosen=True)
    assert broken_level(accuracy(0.1, 0.2), chosen) is None
    with pytest.raises(ValidationError, match="is above warning"):
        PerformanceLevels(warning=0.8, critical=0.85)


def test_a_level_stands_beside_what_else_is_decided():
    both = decide(seen(performance=accuracy(0.7, 0.79, at_test=0.95)), POLICY)
    assert both.action is Action.RETRAIN
    assert "all below 0.900; accuracy on labelled traffic" in both.sentence
    assert both.sentence.endswith("all below the critical level of 0.8")


FALLEN_GUESS = Estimate(metric="accuracy", value=0.7, interval=(0.6, 0.8), at_test=0.9, images=300)


def test_an_estimate_calls_for_nothing_unless_the_policy_says_so():
    assert decide(seen(estimate=FALLEN_GUESS), POLICY) == decide(CALM, POLICY)
    wanted = RetrainPolicy(estimated_drop=0.05)
    decision = decide(seen(estimate=FALLEN_GUESS), wanted)
    assert decision.action is Action.RETRAIN
    assert decision.reasons == ("accuracy as estimated without labels is 0.700 (0.600 to 0.800), all below 0.850",)
    assert decide(seen(estimate=FALLEN_GUESS, new_labels=0), wanted).action is Action.ALERT
    chance = FALLEN_GUESS.model_copy(update={"interval": (0.6, 0.86)})
    assert decide(seen(estimate=chance), wanted).action is Action.NOTHING
    assert decide(seen(estimate=FALLEN_GUESS.model_copy(update={"at_test": None})), wanted).action is Action.NOTHING
