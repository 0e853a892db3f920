"""Decide when to retrain and when only to alert, with a sentence that explains the decision."""

from __future__ import annotations

import enum
from typing import Final

from pydantic import BaseModel, ConfigDict

from visionops.data.findings import counted
from visionops.monitoring.settings import RetrainPolicy

__all__ = [
    "Action",
    "Decision",
    "Estimate",
    "Level",
    "Observation",
    "Performance",
    "broken_level",
    "decide",
    "is_conclusive",
]


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Performance(_Facts):
    """Metric of the champion on labelled traffic."""

    metric: str
    value: float
    interval: tuple[float, float] | None = None
    """95 % interval from resampling the images; None where they were not resampled."""
    at_test: float
    """Metric of the champion on the test split."""
    images: int = 0
    """Number of labelled images that it has not seen."""
    left_out: str = ""
    """Labels that the champion does not know, in words, such as those of a new class; "" for none."""


class Estimate(_Facts):
    """Estimated metric of the champion on a window, without labels (`visionops.monitoring.estimation`)."""

    metric: str
    value: float
    interval: tuple[float, float]
    """95 % interval."""
    at_test: float | None = None
    """Metric of the champion on the test split; None where the registry does not have it."""
    images: int
    """Number of predictions in the window."""


class Observation(_Facts):
    """Facts on which a decision is based."""

    images: int
    """Number of predictions in the window."""
    drift_share: float
    """Share of columns that drifted, 0 to 1."""
    embedding_drifted: bool
    drift: str
    """Names of the drifted columns, the clearest first; "" for none."""
    new_labels: int
    """Number of images labelled since the last training."""
    age_days: float
    """Age of the champion."""
    hours_since_training: float
    """Hours since the last training of this use case produced a version, whether or not it became champion."""
    performance: Performance | None = None
    """Metric on labelled traffic; None without any."""
    estimate: Estimate | None = None
    """Estimate without labels; None where there is none."""
    is_requested: bool = False


class Level(enum.StrEnum):
    """Severity of a metric below an agreed level."""

    WARNING = "warning"
    CRITICAL = "critical"


class Action(enum.StrEnum):
    """Action of a decision."""

    NOTHING = "nothing"
    ALERT = "alert"
    RETRAIN = "retrain"


class Decision(_Facts):
    """Action with its reasons."""

    action: Action
    reasons: tuple[str, ...]
    """Reasons for a training; empty with `Action.NOTHING`, but a warning may have one."""
    sentence: str
    """One sentence with the complete decision, for a log line, an alert or a dashboard."""


_NEXT: Final = {
    Action.NOTHING: "nothing to do",
    Action.ALERT: "alert, no training",
    Action.RETRAIN: "train again",
}


def decide(seen: Observation, policy: RetrainPolicy) -> Decision:
    """Return the policy's decision on an observation. Deterministic and without side effects."""
    decision = _decide(seen, policy)
    if level := broken_level(seen.performance, policy):
        assert seen.performance is not None
        sentence = _level(seen.performance, level, policy)
        if decision.action is Action.NOTHING:
            decision = _decision(Action.ALERT, (sentence,))
        else:
            decision = decision.model_copy(update={"sentence": f"{decision.sentence}; {sentence}"})
    doubt = _doubt(seen.performance, policy)
    return decision.model_copy(update={"sentence": f"{decision.sentence}; {doubt}"}) if doubt else decision


def is_conclusive(performance: Performance, policy: RetrainPolicy) -> bool:
    """Return whether the metric on labelled traffic represents the traffic."""
    return (
        performance.interval is not None and performance.images >= policy.min_labelled and not policy.labels_are_chosen
    )


def broken_level(performance: Performance | None, policy: RetrainPolicy) -> Level | None:
    """Return the worst of the policy's levels above the whole interval on labelled traffic."""
    if performance is None or not is_conclusive(performance, policy) or performance.metric not in policy.levels:
        return None
    assert performance.interval is not None
    levels, high = policy.levels[performance.metric], performance.interval[1]
    if levels.critical is not None and high < levels.critical:
        return Level.CRITICAL
    return Level.WARNING if levels.warning is not None and high < levels.warning else None


def _decide(seen: Observation, policy: RetrainPolicy) -> Decision:
    reasons = _reasons(seen, policy)
    if seen.is_requested:
        return _decision(Action.RETRAIN, ("it was requested", *reasons))
    if not reasons:
        if seen.drift_share > policy.warn_share:
            return _decision(Action.ALERT, (_share(seen),), f"a training needs {policy.drift_share:.0%}")
        share = f"{seen.drift_share:.0%} of the columns drifted in {counted(seen.images, 'prediction')}"
        return _decision(Action.NOTHING, (), f"{share}, {seen.new_labels} new labels")
    if seen.new_labels < policy.min_new_labels:
        label = f"label at least {policy.min_new_labels - seen.new_labels} of the images that changed"
        return _decision(
            Action.ALERT,
            reasons,
            f"with {seen.new_labels} new labels training would give the same model; {label}",
        )
    if seen.hours_since_training < policy.cooldown_hours:
        since, wait = seen.hours_since_training, policy.cooldown_hours - seen.hours_since_training
        return _decision(
            Action.ALERT, reasons, f"the last training was {since:.0f} h ago; the next may begin in {wait:.0f} h"
        )
    return _decision(Action.RETRAIN, reasons)


def _reasons(seen: Observation, policy: RetrainPolicy) -> tuple[str, ...]:
    """Return the reasons for a training."""
    found = []
    if seen.drift_share >= policy.drift_share:
        found.append(f"{_share(seen)}, {policy.drift_share:.0%} or more")
    if policy.embedding and seen.embedding_drifted:
        found.append("the images as a whole differ from those the model was validated on")
    worse = seen.performance
    if worse is not None and policy.performance_drop is not None and is_conclusive(worse, policy):
        least = worse.at_test - policy.performance_drop
        assert worse.interval is not None
        if worse.interval[1] < least:
            found.append(
                f"{worse.metric} on labelled traffic is {worse.value:.3f} "
                f"({worse.interval[0]:.3f} to {worse.interval[1]:.3f}), all below {least:.3f}"
            )
    guess = seen.estimate
    if guess is not None and guess.at_test is not None and policy.estimated_drop is not None:
        least = guess.at_test - policy.estimated_drop
        if guess.interval[1] < least:
            found.append(
                f"{guess.metric} as estimated without labels is {guess.value:.3f} "
                f"({guess.interval[0]:.3f} to {guess.interval[1]:.3f}), all below {least:.3f}"
            )
    if policy.max_age_days is not None and seen.age_days > policy.max_age_days:
        found.append(f"the champion is {seen.age_days:.0f} days old, over {policy.max_age_days:g}")
    if policy.new_labels is not None and seen.new_labels >= policy.new_labels:
        found.append(f"{seen.new_labels} images were labelled since, {policy.new_labels} or more")
    return tuple(found)


def _doubt(worse: Performance | None, policy: RetrainPolicy) -> str:
    """Return why a metric that looks bad has no consequence; "" where it looks good, or has one."""
    if worse is None or policy.performance_drop is None or is_conclusive(worse, policy):
        return ""
    if worse.value >= worse.at_test - policy.performance_drop:
        return ""
    if policy.labels_are_chosen:
        why = "the labelled images were selected, so they do not represent the traffic"
    elif worse.images < policy.min_labelled:
        why = f"{counted(worse.images, 'labelled image')} are too few to say ({policy.min_labelled} needed)"
    else:
        why = "there is no interval to judge it by (set evaluation.resamples)"
    return f"{worse.metric} on labelled traffic is {worse.value:.3f}, but {why}"


def _level(worse: Performance, level: Level, policy: RetrainPolicy) -> str:
    assert worse.interval is not None
    low, high = worse.interval
    return (
        f"{worse.metric} on labelled traffic is {worse.value:.3f} ({low:.3f} to {high:.3f}), all below the {level} "
        f"level of {getattr(policy.levels[worse.metric], level.value):g}"
    )


def _share(seen: Observation) -> str:
    what = f" ({seen.drift})" if seen.drift else ""
    return f"{seen.drift_share:.0%} of the columns drifted{what}"


def _decision(action: Action, reasons: tuple[str, ...], but: str = "") -> Decision:
    text = "; ".join(part for part in (", and ".join(reasons), but) if part)
    return Decision(action=action, reasons=reasons, sentence=f"{_NEXT[action]}: {text}")
