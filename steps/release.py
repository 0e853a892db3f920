"""Register, gate and serve an evaluated bundle. Never cached, as the registry and the endpoint may have changed."""

from __future__ import annotations

from typing import Annotated

from zenml import get_step_context, log_metadata, step

from stacks.same_deployer import require_same_deployer
from steps.context import active_deployer, active_registry
from steps.progress import announce
from visionops.data.dataset import Split
from visionops.data.shards import StoredDataset
from visionops.endpoint import Endpoint
from visionops.evaluation.result import Evaluation
from visionops.gate.settings import GatePlan
from visionops.inference.bundle import ModelBundle
from visionops.inference.settings import ServingConfig, UseCase
from visionops.registry import GateDecision, RegisteredVersion
from visionops.release import decide_release, register_bundle, release, restore
from visionops.tasks.spec import task_for

__all__ = ["gate", "register", "release_model", "restore_model"]


@step(enable_cache=False, experiment_tracker=True)
def register(
    bundle: ModelBundle, evaluation: Evaluation, use_case: UseCase
) -> Annotated[RegisteredVersion, "registered_version"]:
    """Register the bundle as challenger, unless it is already registered."""
    version = register_bundle(active_registry(), use_case.name, bundle, evaluation)
    announce(f"registered {version.name} version {version.version}")
    return version


@step(enable_cache=False)
def gate(
    registered_version: RegisteredVersion, evaluation: Evaluation, prepared: StoredDataset, plan: GatePlan
) -> Annotated[GateDecision, "decision"]:
    """Compare with the gate's limits and with the champion on the same test images."""
    dataset = prepared.only(Split.TEST)
    task = task_for(plan.scoring.use_case.task)
    decision = decide_release(active_registry(), registered_version, evaluation, task, dataset, plan)
    log_metadata({"promote": decision.promote, "reason": decision.reason})
    announce(decision.reason)
    for warning in decision.warnings:
        announce(f"warning: {warning}")
    return decision


@step(enable_cache=False)
def release_model(
    registered_version: RegisteredVersion, decision: GateDecision, prepared: StoredDataset, serving: ServingConfig
) -> Annotated[Endpoint | None, "endpoint"]:
    """Switch the endpoint and move the alias, if the gate says so."""
    dataset = prepared.only(Split.TEST)
    require_same_deployer(get_step_context().pipeline_run.config.extra)
    registry, deployer = active_registry(), active_deployer()
    endpoint = release(registry, deployer, registered_version, decision, dataset, serving)
    _tell(endpoint)
    return endpoint


@step(enable_cache=False)
def restore_model(use_case: UseCase, serving: ServingConfig, rollback: bool) -> Annotated[Endpoint, "endpoint"]:
    """Serve the champion again, or the previous one."""
    require_same_deployer(get_step_context().pipeline_run.config.extra)
    endpoint = restore(active_registry(), active_deployer(), use_case.name, serving, rollback=rollback)
    _tell(endpoint)
    return endpoint


def _tell(endpoint: Endpoint | None) -> None:
    for remark in endpoint.remarks if endpoint else ():
        announce(remark)
