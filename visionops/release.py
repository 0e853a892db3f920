"""Judging a challenger and putting a model into service, in the order that survives an interruption.

The endpoint is switched first and the alias moves after: a model that fails its smoke test never becomes champion, and
a run that is killed in between is completed by the next one.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from visionops.config import Config
from visionops.data.dataset import Dataset, Split
from visionops.endpoint import Endpoint, EndpointDeployer
from visionops.inference.bundle import ModelBundle, Precision
from visionops.registry import CHAMPION, GateDecision, ModelRegistry, RegisteredVersion, decide
from visionops.tasks.base import Evaluation, Task

__all__ = ["judge", "put_into_service", "register_bundle", "release", "restore", "smoke_images"]

_SMOKE_IMAGES = 3


def register_bundle(
    registry: ModelRegistry, name: str, bundle: ModelBundle, evaluation: Evaluation
) -> RegisteredVersion:
    """Log the bundle to the active MLflow run and make it the challenger; one that is registered already is found."""
    if existing := registry.by_digest(name, bundle.digest):
        return existing
    from visionops.pyfunc import log_pyfunc

    return registry.register(name, log_pyfunc(bundle, name).model_uri, bundle, evaluation)


def judge(
    registry: ModelRegistry,
    version: RegisteredVersion,
    evaluation: Evaluation,
    task: Task,
    dataset: Dataset,
    config: Config,
) -> GateDecision:
    """Decide whether ``version`` becomes champion, and write the decision onto it.

    The champion is scored again when it was last scored on another test split.
    """
    champion = registry.by_alias(config.name, CHAMPION)
    if champion is not None and champion.version == version.version:
        decision = _settled(
            evaluation, config, promote=True, reason=f"version {version.version} is the champion already"
        )
    elif version.rolled_back:
        reason = f"refused: version {version.version} was rolled back by hand; train a better one"
        decision = _settled(evaluation, config, promote=False, reason=reason)
    else:
        # A quantized challenger has its speed to give; it only must not lose too much.
        max_loss = config.quantization.max_loss if evaluation.precision == Precision.INT8 else None
        scored = _score(registry, champion, task, dataset, config)
        decision = decide(evaluation, scored, config.gate, max_loss=max_loss)
        registry.record(version, decision)
    return decision


def release(
    registry: ModelRegistry,
    deployer: EndpointDeployer,
    version: RegisteredVersion,
    decision: GateDecision,
    dataset: Dataset,
    config: Config,
) -> Endpoint | None:
    """Serve ``version`` and make it champion if the gate says so; else see that the champion answers.

    Returns:
        None when the gate refused and there is no champion: nothing is served that nobody asked for.
    """
    chosen = version if decision.promote else registry.by_alias(config.name, CHAMPION)
    if chosen is None:
        return None
    endpoint = put_into_service(registry, deployer, chosen, config, smoke_images(dataset))
    if decision.promote:
        registry.promote(version)
    return endpoint


def restore(registry: ModelRegistry, deployer: EndpointDeployer, config: Config, *, rollback: bool) -> Endpoint:
    """Serve the champion again; with ``rollback``, the one before it, which becomes champion.

    Raises:
        RegistryError: There is no such champion.
    """
    chosen = registry.before_champion(config.name) if rollback else registry.champion(config.name)
    endpoint = put_into_service(registry, deployer, chosen, config, ())
    if rollback:
        registry.rollback(config.name)
    return endpoint


def put_into_service(
    registry: ModelRegistry,
    deployer: EndpointDeployer,
    version: RegisteredVersion,
    config: Config,
    images: tuple[bytes, ...],
) -> Endpoint:
    """Fetch the bundle of ``version``, check it and hand it to the deployer, as the champion."""
    with tempfile.TemporaryDirectory(prefix="visionops-bundle-") as folder:
        bundle = registry.fetch_bundle(version, Path(folder))
        return deployer.deploy_bundle(
            bundle.folder,
            name=config.name,
            version=version.version,
            alias=CHAMPION,
            serving=config.serving,
            smoke_images=images,
        )


def smoke_images(dataset: Dataset) -> tuple[bytes, ...]:
    """A few encoded images of the test split."""
    return tuple(path.read_bytes() for path in dataset.select_split(Split.TEST).paths()[:_SMOKE_IMAGES])


def _score(
    registry: ModelRegistry, champion: RegisteredVersion | None, task: Task, dataset: Dataset, config: Config
) -> Evaluation | None:
    if champion is None:
        return None
    brief = config.evaluation.model_copy(update={"latency_images": 1})
    with tempfile.TemporaryDirectory(prefix="visionops-champion-") as folder:
        bundle = registry.fetch_bundle(champion, Path(folder))
        return task.evaluate(bundle, dataset, config.model_copy(update={"evaluation": brief}), None)


def _settled(evaluation: Evaluation, config: Config, *, promote: bool, reason: str) -> GateDecision:
    return GateDecision(
        promote=promote,
        reason=reason,
        metric=config.gate.metric,
        challenger=evaluation.metrics[config.gate.metric],
        minimum=config.gate.minimum,
        margin=config.gate.margin,
    )
