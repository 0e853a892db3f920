"""Judge a challenger and put a model into service, in an order that survives interruptions.

The endpoint is switched first, and the alias moves afterwards: a model that fails its smoke test never becomes
champion, and the next run completes a run that was killed in between.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from visionops.canary.holding import Stage, begin, find_held, put_into_service, release_state
from visionops.data.dataset import Dataset, Split
from visionops.data.history import SplitHistory
from visionops.endpoint import Endpoint, EndpointDeployer
from visionops.errors import ChampionChangedError, MetricError, RegistryError
from visionops.evaluation.result import Evaluation
from visionops.evaluation.settings import EvaluationPlan
from visionops.gate.decision import GateDecision, class_figure, decide
from visionops.gate.settings import GateConfig, GatePlan
from visionops.inference.bundle import ModelBundle
from visionops.inference.settings import Precision, ServingConfig
from visionops.lineage import read_splits
from visionops.registry import CHAMPION, ModelRegistry, RegisteredVersion
from visionops.tasks.comparison import Comparison, comparison_set
from visionops.tasks.spec import TaskSpec

__all__ = ["decide_release", "promote_by_hand", "register_bundle", "release", "restore", "smoke_images"]

_SMOKE_IMAGES = 3


def register_bundle(
    registry: ModelRegistry, name: str, bundle: ModelBundle, evaluation: Evaluation
) -> RegisteredVersion:
    """Log the bundle to the registry's MLflow as challenger; return the existing version if it is registered."""
    if existing := registry.by_digest(name, bundle.digest):
        return existing
    from visionops.pyfunc import log_pyfunc

    with registry.open_run(name):
        return registry.register(name, log_pyfunc(bundle, name).model_uri, bundle, evaluation)


def decide_release(
    registry: ModelRegistry,
    version: RegisteredVersion,
    evaluation: Evaluation,
    task: TaskSpec[Any],
    dataset: Dataset,
    plan: GatePlan,
) -> GateDecision:
    """Decide whether ``version`` becomes champion, and write the decision onto it.

    The models to beat (`ModelRegistry.lineage`) are scored on the images of the current test split that none of the
    models was trained or selected on. If they do not know all of its classes, all models, including ``version``, are
    scored on the classes that they know.
    """
    champion = registry.by_alias(plan.scoring.use_case.name, CHAMPION)
    if champion is not None and champion.version == version.version:
        reason = f"version {version.version} is the champion already"
        return _decision(evaluation, plan.gate, champion, promote=True, reason=reason)
    if version.rolled_back:
        reason = f"refused: version {version.version} was rolled back by hand; train a better one"
        return _decision(evaluation, plan.gate, champion, promote=False, reason=reason)
    state = release_state(version)
    if state is not None and state.stage in {Stage.RETURNING, Stage.RETURNED}:
        reason = (
            f"refused: version {version.version} was taken back from its release ({state.reason}); train a better one"
        )
        return _decision(evaluation, plan.gate, champion, promote=False, reason=reason)
    if champion is None:
        decision = decide(evaluation, None, plan.gate)
    else:
        decision = _compare_with_lineage(registry, version, champion, evaluation, task, dataset, plan)
    registry.record(version, decision)
    return decision


def _compare_with_lineage(
    registry: ModelRegistry,
    version: RegisteredVersion,
    champion: RegisteredVersion,
    evaluation: Evaluation,
    task: TaskSpec[Any],
    dataset: Dataset,
    plan: GatePlan,
) -> GateDecision:
    """Compare ``version`` with the best model of the champion's lineage."""
    brief = plan.scoring.brief()
    opponents = registry.lineage(champion)
    with tempfile.TemporaryDirectory(prefix="visionops-champion-") as folder:

        def fetch(wanted: RegisteredVersion) -> ModelBundle:
            return registry.fetch_bundle(wanted, Path(folder) / wanted.version)

        bundles, challenger = [fetch(opponent) for opponent in opponents], fetch(version)
        histories = [read_splits(bundle) for bundle in (*bundles, challenger)]
        usable = _untrained_test_images(dataset, histories, plan.validation.near_duplicate_distance)
        try:
            comparison = comparison_set(dataset, [bundle.card for bundle in bundles], usable)
            theirs = [_score(task, bundle, comparison, brief) for bundle in bundles]
            ours = evaluation if comparison.is_whole else _score(task, challenger, comparison, brief)
        except MetricError as error:
            reason = (
                f"refused: nothing to compare with the champion on ({error}); add test images of classes that it "
                "knows, or rename the use case"
            )
            return _decision(evaluation, plan.gate, champion, promote=False, reason=reason)
    best = max(range(len(theirs)), key=lambda row: theirs[row].metrics[plan.gate.metric])
    decision = decide(
        evaluation,
        theirs[best],
        plan.gate,
        # A quantized challenger wins on speed, so it may lose up to `max_loss`.
        max_loss=plan.quantization.max_loss if evaluation.precision == Precision.INT8 else None,
        compared=None if comparison.is_whole else ours,
        opponent="the champion" if best == 0 else f"former champion {opponents[best].version}",
        champion_version=champion.version,
    )
    remarks = [] if comparison.is_whole else [f"compared {comparison.explain()}"]
    remarks += _new_figures(evaluation, comparison, plan.gate.metric)
    # A bundle of an earlier release has no history: the comparison can only favor the champion.
    silent = [o.version for o, history in zip(opponents, histories, strict=False) if history is None]
    remarks += [
        f"version {name} does not record which images it was trained on, and may know some of these" for name in silent
    ]
    return decision.model_copy(update={"reason": "; ".join((decision.reason, *remarks))})


def _untrained_test_images(
    dataset: Dataset, histories: Sequence[SplitHistory | None], distance: int
) -> npt.NDArray[np.bool_]:
    """Return which test images no model, nor any model before it, was trained on, bool (test images,)."""
    test = dataset.select_split(Split.TEST)
    usable = np.ones(test.num_images, dtype=np.bool_)
    for history in histories:
        if history is not None:
            usable &= ~history.learned_from(test, distance)
    return usable


def _score(task: TaskSpec[Any], bundle: ModelBundle, comparison: Comparison, scoring: EvaluationPlan) -> Evaluation:
    scored_on = comparison.dataset_for(bundle.card)
    scored = task.evaluate(bundle, scored_on, scoring, None)
    if scored_on is comparison.test:
        return scored
    # A model with more attributes is scored on a table with more columns; the columns that count are the same.
    return dataclasses.replace(scored, test_fingerprint=comparison.test.fingerprint())


def _new_figures(evaluation: Evaluation, comparison: Comparison, metric: str) -> Iterator[str]:
    """Yield the challenger's results on the classes that the champion does not know."""
    for row in comparison.new:
        figures = evaluation.per_class.get(row)
        if figures is None:
            yield f"new: {row}"
        else:
            name, value = class_figure(figures, metric)
            yield f"new: {row} with {name} {value:.3f}"


def release(
    registry: ModelRegistry,
    deployer: EndpointDeployer,
    version: RegisteredVersion,
    decision: GateDecision,
    dataset: Dataset,
    serving: ServingConfig,
) -> Endpoint | None:
    """Serve ``version`` and make it champion if the gate promotes it; else make sure that the champion answers.

    With canary or shadow in ``serving.release`` it is first tried beside the champion, and the alias does not move; the
    first champion is served at once.

    Returns:
        None if the gate refused and there is no champion: then nothing is served.

    Raises:
        ChampionChangedError: Another run promoted another version since the gate compared. The endpoint keeps serving
            that one.
    """
    if decision.promote:
        registry.check_champion(version, decision)
    present = registry.by_alias(version.name, CHAMPION)
    chosen = version if decision.promote else present
    if chosen is None:
        return None
    images = smoke_images(dataset)
    held = find_held(registry, version.name)
    if decision.promote and serving.release.is_held and present and present.version != version.version:
        return begin(registry, deployer, version, present, serving, images, datetime.now(UTC))
    # The champion keeps serving beside the candidate.
    beside = held.version if held and present and chosen.version == present.version == held.state.champion else None
    endpoint = put_into_service(registry, deployer, chosen, serving, images, beside)
    if decision.promote:
        try:
            registry.promote(version, decision)
        except ChampionChangedError:
            if champion := registry.by_alias(version.name, CHAMPION):
                put_into_service(registry, deployer, champion, serving, images)
            raise
    return endpoint


def restore(
    registry: ModelRegistry, deployer: EndpointDeployer, name: str, serving: ServingConfig, *, rollback: bool
) -> Endpoint:
    """Serve the champion again; with ``rollback`` serve the champion before it and make that the champion.

    Raises:
        RegistryError: There is no such champion.
        ChampionChangedError: Another run promoted or rolled back a version in the meantime.
    """
    champion = registry.champion(name)
    chosen = registry.before_champion(name) if rollback else champion
    held = None if rollback else find_held(registry, name)
    beside = held.version if held and held.state.champion == champion.version else None
    endpoint = put_into_service(registry, deployer, chosen, serving, (), beside)
    if rollback:
        try:
            registry.rollback(name, champion)
        except ChampionChangedError:
            put_into_service(registry, deployer, registry.champion(name), serving, ())
            raise
    return endpoint


def promote_by_hand(
    registry: ModelRegistry,
    deployer: EndpointDeployer,
    version: RegisteredVersion,
    serving: ServingConfig,
    reason: str,
    *,
    override: bool = False,
) -> Endpoint:
    """Serve a version that a person has chosen, and make it champion; write the reason onto the version.

    Args:
        override: Promote even if the gate refused the version, did not judge it, or compared it with a former
            champion. A version that was rolled back is never promoted.

    Raises:
        RegistryError: The rules of the gate forbid it.
    """
    champion = registry.by_alias(version.name, CHAMPION)
    if version.rolled_back:
        raise RegistryError(f"{version.name}: version {version.version} was rolled back by hand; train a better one")
    if not override and (problem := _gate_problem(version, champion)):
        raise RegistryError(
            f"{version.name}: version {version.version} {problem}; promote another, or this one with --override"
        )
    endpoint = put_into_service(registry, deployer, version, serving, ())
    registry.note(version, "promoted_by_hand", reason)
    registry.promote(version)
    return endpoint


def _gate_problem(version: RegisteredVersion, champion: RegisteredVersion | None) -> str:
    """Return the gate's objection to a version; "" for none."""
    if champion is not None and champion.version == version.version:
        return ""
    state = release_state(version)
    if state is not None and state.stage in {Stage.RETURNING, Stage.RETURNED}:
        return f"was taken back from its release ({state.reason})"
    if version.gate_promotes is None:
        return "has not been judged by the gate"
    if not version.gate_promotes:
        return f"was refused by the gate ({version.tags.get('gate.reason', 'no reason is known')})"
    compared, present = version.tags.get("gate.champion_version", "None"), champion.version if champion else "None"
    return "" if compared == present else f"was compared with version {compared}, but {present} is now champion"


def smoke_images(dataset: Dataset) -> tuple[bytes, ...]:
    """Return a few encoded images of the test split."""
    return tuple(path.read_bytes() for path in dataset.select_split(Split.TEST).paths()[:_SMOKE_IMAGES])


def _decision(
    evaluation: Evaluation, gate: GateConfig, champion: RegisteredVersion | None, *, promote: bool, reason: str
) -> GateDecision:
    """Return a decision that needs no comparison with the champion."""
    return GateDecision(
        promote=promote,
        reason=reason,
        metric=gate.metric,
        challenger=evaluation.metrics[gate.metric],
        minimum=gate.minimum,
        margin=gate.margin,
        champion_version=champion.version if champion else None,
    )
