"""Decide whether a challenger may replace the champion, from two evaluations on the same test images.

A difference between two values is not enough: on few images it may be chance. The gate looks at paired bootstrap
resamples, and replaces a champion only if the challenger is ahead in nearly all of them. Without resamples there is no
promotion. docs/decisions/021-gate.md has the rules and their error rates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from visionops.data.findings import counted
from visionops.errors import RegistryError
from visionops.evaluation.result import Evaluation
from visionops.gate.settings import GateConfig

__all__ = ["CLASS_DROP", "GateDecision", "class_figure", "decide"]

CLASS_DROP = 0.1
"""Drop below the champion's value from which a class gets a warning."""

_ROUNDING = 1e-9
"""Tolerance for rounding: 0.82 - 0.80 is slightly less than 0.02 in binary."""


class GateDecision(BaseModel):
    """Decision whether a challenger becomes champion, and its reason."""

    model_config = ConfigDict(frozen=True)

    promote: bool
    reason: str
    """Reason in one sentence, with the numbers."""
    metric: str
    challenger: float
    """The challenger's metric on the whole test split."""
    champion: float | None = None
    """The metric to beat: the champion's, or that of a former champion if it is better. None: no champion."""
    minimum: float
    margin: float
    """Margin by which the champion had to be beaten; a negative one is the permitted loss."""
    compared: float | None = None
    """The challenger's metric on the images that both were compared on, if these are not the whole test split."""
    champion_version: str | None = None
    """Champion at the time of the decision; None: there was none. If the champion has changed, the decision is void."""
    warnings: tuple[str, ...] = ()
    """Points for a person to check, whatever the decision: classes that got worse, floors that could not be judged."""


def decide(
    challenger: Evaluation,
    champion: Evaluation | None,
    gate: GateConfig,
    *,
    max_loss: float | None = None,
    compared: Evaluation | None = None,
    opponent: str = "the champion",
    champion_version: str | None = None,
) -> GateDecision:
    """Judge a challenger: the absolute gate, the class floors, then the champion on the same test images.

    Args:
        challenger: Evaluation on the whole test split.
        champion: Evaluation of the model to beat; None if there is no champion.
        max_loss: Permitted loss against the champion, for a challenger that is cheaper, such as a quantized one.
            Without it the champion must be beaten by the gate's margin.
        compared: Evaluation of the challenger on the images that the champion was scored on, if these are not the
            whole test split.
        opponent: Name of the model to beat in the reason.
        champion_version: Version of the champion.

    Raises:
        RegistryError: The two were scored on different test images, so they cannot be compared.
    """
    ours = compared or challenger
    if champion is not None and champion.test_fingerprint != ours.test_fingerprint:
        raise RegistryError(
            "challenger and champion were scored on different test splits; score both on the current one"
        )
    name, value = gate.metric, challenger.metrics[gate.metric]
    floors, warnings = _floors(challenger, gate)
    if not value >= gate.minimum:  # refuses NaN, too
        promote, reason = False, f"refused: {name} {value:.3f} is below the gate of {gate.minimum:.3f}"
    elif floors:
        promote, reason = False, f"refused: {floors}"
    elif champion is None:
        promote, reason = (
            True,
            f"promoted: {name} {value:.3f} passes the gate of {gate.minimum:.3f}; the first champion",
        )
    else:
        promote, reason = _compare(ours, champion, gate, max_loss, opponent)
    if champion is not None:
        warnings += _fallen_classes(ours, champion, name, opponent)
    return GateDecision(
        promote=promote,
        reason=reason,
        metric=name,
        challenger=value,
        champion=champion.metrics[name] if champion else None,
        minimum=gate.minimum,
        margin=gate.margin if max_loss is None else -max_loss,
        compared=None if compared is None else compared.metrics[name],
        champion_version=champion_version,
        warnings=warnings,
    )


def class_figure(figures: Mapping[str, float], metric: str) -> tuple[str, float]:
    """Return the metric that judges one class, and its value: the gate's metric if it exists per class, else recall.

    Accuracy, balanced accuracy and areas under curves cover all classes together; a class contributes its recall to
    them.
    """
    name = metric if metric in figures else "recall"
    return name, figures.get(name, math.nan)


def _floors(challenger: Evaluation, gate: GateConfig) -> tuple[str, tuple[str, ...]]:
    """Return the violations of ``gate.per_class_minimum`` ("" for none), and warnings for classes it cannot judge."""
    given, known = gate.per_class_minimum, challenger.per_class
    if given is None:
        return "", ()
    floors = given if isinstance(given, dict) else dict.fromkeys(known, given)
    broken, unjudged = [], []
    for row, floor in floors.items():
        if row not in known:
            broken.append(f"gate.per_class_minimum names {row!r}, the model knows {', '.join(known)}; correct the name")
            continue
        name, value = class_figure(known[row], gate.metric)
        if math.isnan(value):
            unjudged.append(f"{name} of {row} is not defined, because the test split has no image of it")
        elif value < floor - _ROUNDING:
            broken.append(f"{name} of {row} {value:.3f} is below gate.per_class_minimum of {floor:.3f}")
    if isinstance(given, dict):  # a class that is named must be judged
        broken += [f"{text}; add test images for its gate.per_class_minimum" for text in unjudged]
        unjudged = []
    return "; ".join(broken), tuple(f"gate.per_class_minimum: {text}" for text in unjudged)


def _fallen_classes(ours: Evaluation, theirs: Evaluation, metric: str, opponent: str) -> tuple[str, ...]:
    """Return a warning for each class that is worse than the champion's by more than `CLASS_DROP`."""
    found = []
    for row in ours.per_class.keys() & theirs.per_class.keys():
        (name, new), (_, old) = (class_figure(e.per_class[row], metric) for e in (ours, theirs))
        if old - new > CLASS_DROP + _ROUNDING:
            count = f", {ours.per_class[row]['instances']:.0f} in test" if "instances" in ours.per_class[row] else ""
            found.append(f"{name} of {row} {new:.3f} is far below {opponent}'s {old:.3f}{count}")
    return tuple(sorted(found))


def _compare(
    challenger: Evaluation, champion: Evaluation, gate: GateConfig, max_loss: float | None, opponent: str
) -> tuple[bool, str]:
    """Return whether the challenger wins against the champion, and why."""
    name, value, best = gate.metric, challenger.metrics[gate.metric], champion.metrics[gate.metric]
    figures = f"{name} {value:.3f}"
    if max_loss is None:
        margin = gate.margin
        beats, fails = f"beats {opponent}'s {best:.3f}", f"does not beat {opponent}'s {best:.3f} by {margin:.3f}"
        within = f"{beats} by {margin:.3f} or more"
    else:
        margin = -max_loss
        within = beats = f"is within {max_loss:.3f} of {opponent}'s {best:.3f}"
        fails = f"misses {opponent}'s {best:.3f} by more than {max_loss:.3f}"
    if not value - best >= margin - _ROUNDING:
        return False, f"refused: {figures} {fails}"
    if not gate.confidence:
        return True, f"promoted: {figures} {within}; gate.confidence is 0, so only the margin counts"
    pairs = _pairs(challenger, champion, name)
    if len(pairs) < gate.least_resamples:
        return False, f"refused: {figures} {beats}, but {_without_resamples(challenger, champion, gate, len(pairs))}"
    if challenger.num_images < gate.min_images:
        return False, (
            f"refused: {figures} {beats}, but {challenger.num_images} test images are too few to replace a champion "
            f"({gate.min_images} needed, gate.min_images); add test images"
        )
    ahead = _share_ahead(pairs, max_loss)
    if ahead <= gate.confidence:  # an equal challenger also loses one of 20 resamples by chance
        return False, (
            f"refused: {figures} {beats}, but in only {_percent(ahead)} of resamples of the "
            f"{challenger.num_images} test images (more than {gate.confidence:.0%} needed): that may be chance"
        )
    return True, f"promoted: {figures} {within}, in {_percent(ahead)} of resamples of the test images"


def _pairs(challenger: Evaluation, champion: Evaluation, metric: str) -> list[tuple[float, float]]:
    """Return both metrics on each resample that defines them; an empty list if the resamples do not pair."""
    ours, theirs = (evaluation.replicates.get(metric, ()) for evaluation in (challenger, champion))
    if len(ours) != len(theirs):
        return []
    # A resample without a class may not define the metric, so it does not tell who is ahead.
    return [(o, t) for o, t in zip(ours, theirs, strict=True) if not (math.isnan(o) or math.isnan(t))]


def _share_ahead(pairs: list[tuple[float, float]], max_loss: float | None) -> float:
    """Return the share of paired resamples where the challenger is ahead, or loses at most ``max_loss``.

    A tie is not ahead. Counted as half, ties would let an equal challenger pass more often than the gate permits.
    """
    if max_loss is not None:
        return sum(o - t >= -max_loss - _ROUNDING for o, t in pairs) / len(pairs)
    return sum(o - t > _ROUNDING for o, t in pairs) / len(pairs)


def _without_resamples(challenger: Evaluation, champion: Evaluation, gate: GateConfig, count: int) -> str:
    """Explain why too few resamples can be compared, and how to get more."""
    name = gate.metric
    ours, theirs = (len(evaluation.replicates.get(name, ())) for evaluation in (challenger, champion))
    margin_alone = "or set gate.confidence: 0 to compare by the margin alone"
    if not ours and not theirs:
        return (
            f"{name} was not resampled, so this may be chance; evaluate with "
            f"evaluation.resamples of {gate.least_resamples} or more ({margin_alone})"
        )
    if ours != theirs:
        return (
            f"the challenger's {name} has {ours} resamples and the champion's {theirs}, which do not pair; evaluate "
            f"both with one evaluation.resamples: run again with --no-cache ({margin_alone})"
        )
    if ours < gate.least_resamples:
        return (
            f"{counted(ours, 'resample')} of the test images are too few, {gate.least_resamples} needed; raise "
            f"evaluation.resamples ({margin_alone})"
        )
    return (
        f"only {count} of {ours} resamples define {name}, {gate.least_resamples} needed; add test images of every "
        f"class, or raise evaluation.resamples ({margin_alone})"
    )


def _percent(share: float) -> str:
    """Format a share rounded down, so that a refused share never reads like the needed one."""
    return f"{math.floor(share * 100 + _ROUNDING)}%"
