"""Releases over the registry and the endpoint: begun, looked at, and ended, so that an interruption loses nothing.

The version that is tried carries the alias ``candidate`` and the tag ``visionops.release``, a `ReleaseState`: whoever
looks finds both, whatever process began it. A verdict is written before it is carried out, so that the next look goes
on where one was killed.
"""

from __future__ import annotations

import enum
import tempfile
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from visionops.canary.decision import Action, Figures, Verdict, decide
from visionops.endpoint import Candidate, Endpoint, EndpointDeployer
from visionops.errors import RegistryError
from visionops.inference.release_settings import ReleaseConfig
from visionops.inference.settings import ServingConfig
from visionops.registry import CANDIDATE, CHAMPION, ModelRegistry, RegisteredVersion

__all__ = [
    "Held",
    "ReleaseState",
    "Stage",
    "abort",
    "begin",
    "find_held",
    "look",
    "promote_early",
    "put_into_service",
    "release_state",
    "settle",
]


class Stage(enum.StrEnum):
    """How far a release has come."""

    HELD = "held"
    PROMOTING = "promoting"
    """Decided; endpoint and alias may not have moved yet."""
    RETURNING = "returning"
    """Decided; the endpoint may not have been given back yet."""
    PROMOTED = "promoted"
    RETURNED = "returned"
    SUPERSEDED = "superseded"
    """Another version was released, or the champion changed, before it was decided."""


class ReleaseState(BaseModel):
    """What the registry keeps of a release, on the version that is tried."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    stage: Stage
    release: ReleaseConfig
    champion: str
    """Version beside which it is tried."""
    since: datetime
    """When the hold began; aware."""
    reason: str = ""
    """Why it was promoted, or went back."""
    by: str = ""
    """Who decided, where it was no figure but a person."""
    ended: datetime | None = None
    figures: dict[str, float | int | None] = {}
    """`Figures.summary` when it was decided."""


class Held(BaseModel):
    """A version that is tried beside a champion."""

    model_config = ConfigDict(frozen=True)

    version: RegisteredVersion
    state: ReleaseState


def release_state(version: RegisteredVersion) -> ReleaseState | None:
    """Return what became of the release of a version; None where it had none."""
    if not version.release_text:
        return None
    try:
        return ReleaseState.model_validate_json(version.release_text)
    except ValidationError as error:
        raise RegistryError(
            f"{version.name} version {version.version}: its tag visionops.release cannot be read; remove the tag and "
            "release it again"
        ) from error


def find_held(registry: ModelRegistry, name: str) -> Held | None:
    """Return what is tried beside the champion of ``name``; None for nothing."""
    version = registry.by_alias(name, CANDIDATE)
    state = release_state(version) if version else None
    return Held(version=version, state=state) if version and state else None


def put_into_service(
    registry: ModelRegistry,
    deployer: EndpointDeployer,
    version: RegisteredVersion,
    serving: ServingConfig,
    images: tuple[bytes, ...],
    candidate: RegisteredVersion | None = None,
) -> Endpoint:
    """Fetch the bundle of ``version``, check it and hand it to the deployer, as the champion.

    Args:
        images: Encoded images that a new model must answer before it gets traffic.
        candidate: Tried beside it; without one, what was tried is taken away.
    """
    with tempfile.TemporaryDirectory(prefix="visionops-bundle-") as folder:
        bundle = registry.fetch_bundle(version, Path(folder) / "champion")
        beside = {}
        if candidate:
            fetched = registry.fetch_bundle(candidate, Path(folder) / "candidate")
            beside = {"candidate": Candidate(fetched.folder, candidate.version)}
        return deployer.deploy_bundle(
            bundle.folder,
            name=version.name,
            version=version.version,
            alias=CHAMPION,
            serving=serving,
            smoke_images=images,
            **beside,
        )


def begin(
    registry: ModelRegistry,
    deployer: EndpointDeployer,
    version: RegisteredVersion,
    champion: RegisteredVersion,
    serving: ServingConfig,
    images: tuple[bytes, ...],
    now: datetime,
) -> Endpoint:
    """Try ``version`` beside the champion, as ``serving.release`` says; one that is tried already is tried on.

    Raises:
        DeploymentError: It does not load or does not answer; the champion answers all.
    """
    held = find_held(registry, version.name)
    if held and held.version.version != version.version:
        _end(registry, held, Stage.SUPERSEDED, f"version {version.version} is tried instead", now)
        held = None
    goes_on = (
        held is not None
        and held.state.stage in {Stage.HELD, Stage.PROMOTING}
        and (held.state.champion, held.state.release) == (champion.version, serving.release)
    )
    endpoint = put_into_service(registry, deployer, champion, serving, images, version)
    if not goes_on:
        state = ReleaseState(stage=Stage.HELD, release=serving.release, champion=champion.version, since=now)
        registry.hold(version, state.model_dump_json())
    release = serving.release
    part = "answers" if release.strategy == "canary" else "computes"
    remark = (
        f"version {version.version} {part} {release.share:.0%} of the requests as {release.strategy} for "
        f"{release.hold_minutes:g} minutes; `visionops release watch` promotes it or takes it back"
    )
    return endpoint.model_copy(update={"remarks": (*endpoint.remarks, remark)})


def look(registry: ModelRegistry, deployer: EndpointDeployer, name: str, now: datetime) -> tuple[Held, Verdict]:
    """Return what is tried, and what should become of it by now. Changes nothing.

    Raises:
        RegistryError: Nothing is tried.
        DeploymentError: The endpoint does not say how it does.
    """
    held = _held(registry, name)
    state, version = held.state, held.version.version
    if state.stage in {Stage.PROMOTING, Stage.RETURNING}:  # whoever decided was interrupted
        action = Action.PROMOTE if state.stage is Stage.PROMOTING else Action.RETURN
        return held, Verdict(action=action, reason=state.reason, figures=Figures())
    return held, decide(state.release, version, deployer.release_reports(name), state.since, now)


def settle(
    registry: ModelRegistry, deployer: EndpointDeployer, name: str, serving: ServingConfig, now: datetime
) -> tuple[Held, Verdict]:
    """Look, and do what follows: promote, take back, or nothing yet.

    The endpoint moves first and the alias after, as in every release. A champion that changed meanwhile ends the
    release without a verdict.

    Raises:
        RegistryError: Nothing is tried.
        DeploymentError: The endpoint does not say how it does, or cannot be switched; the next look tries again.
    """
    held = _held(registry, name)
    champion = registry.champion(name)
    known = {held.state.champion, held.version.version}
    if champion.version not in known:
        reason = f"version {champion.version} became champion while version {held.version.version} was tried"
        put_into_service(registry, deployer, champion, serving, ())
        ended = _end(registry, held, Stage.SUPERSEDED, reason, now)
        return ended, Verdict(action=Action.RETURN, reason=reason, figures=Figures())
    if champion.version == held.version.version and held.state.stage is Stage.HELD:
        reason = f"version {champion.version} was made champion before its hold was over"
        ended = _end(registry, held, Stage.PROMOTED, reason, now)
        return ended, Verdict(action=Action.PROMOTE, reason=reason, figures=Figures())
    held, verdict = look(registry, deployer, name, now)
    if verdict.action is Action.PROMOTE:
        return _promote(registry, deployer, held, verdict, serving, now, ""), verdict
    if verdict.action is Action.RETURN:
        return _take_back(registry, deployer, held, verdict, serving, now, ""), verdict
    return held, verdict


def promote_early(
    registry: ModelRegistry,
    deployer: EndpointDeployer,
    name: str,
    serving: ServingConfig,
    now: datetime,
    *,
    reason: str,
    by: str,
) -> Held:
    """Promote what is tried before its hold is over, because a person says so.

    Raises:
        RegistryError: Nothing is tried, or its servers sent it away.
    """
    held, verdict = look(registry, deployer, name, now)
    if verdict.action is Action.RETURN:
        raise RegistryError(
            f"{name}: version {held.version.version} {verdict.reason}; abort it, and train a better one"
        )
    said = verdict.model_copy(update={"reason": reason})
    return _promote(registry, deployer, held, said, serving, now, by)


def abort(
    registry: ModelRegistry,
    deployer: EndpointDeployer,
    name: str,
    serving: ServingConfig,
    now: datetime,
    *,
    reason: str,
    by: str,
) -> Held:
    """Take back what is tried, because a person says so; the endpoint need not say how it does.

    Raises:
        RegistryError: Nothing is tried.
    """
    verdict = Verdict(action=Action.RETURN, reason=reason, figures=Figures())
    return _take_back(registry, deployer, _held(registry, name), verdict, serving, now, by)


def _held(registry: ModelRegistry, name: str) -> Held:
    if held := find_held(registry, name):
        return held
    raise RegistryError(
        f"{name}: nothing is tried beside the champion; set serving.release.strategy to canary or shadow and train"
    )


def _promote(
    registry: ModelRegistry,
    deployer: EndpointDeployer,
    held: Held,
    verdict: Verdict,
    serving: ServingConfig,
    now: datetime,
    by: str,
) -> Held:
    deciding = _decided(held, Stage.PROMOTING, verdict, by)
    registry.hold(held.version, deciding.state.model_dump_json())
    put_into_service(registry, deployer, held.version, serving, ())
    registry.promote(held.version)
    return _end(registry, deciding, Stage.PROMOTED, deciding.state.reason, now)


def _take_back(
    registry: ModelRegistry,
    deployer: EndpointDeployer,
    held: Held,
    verdict: Verdict,
    serving: ServingConfig,
    now: datetime,
    by: str,
) -> Held:
    deciding = _decided(held, Stage.RETURNING, verdict, by)
    registry.hold(held.version, deciding.state.model_dump_json())
    put_into_service(registry, deployer, registry.champion(held.version.name), serving, ())
    return _end(registry, deciding, Stage.RETURNED, deciding.state.reason, now)


def _decided(held: Held, stage: Stage, verdict: Verdict, by: str) -> Held:
    if held.state.stage is stage:
        return held  # decided before, with figures that are gone by now
    figures = verdict.figures.summary() if verdict.figures.heard else {}
    change = {"stage": stage, "reason": verdict.reason, "by": by, "figures": figures}
    return held.model_copy(update={"state": held.state.model_copy(update=change)})


def _end(registry: ModelRegistry, held: Held, stage: Stage, reason: str, now: datetime) -> Held:
    state = held.state.model_copy(update={"stage": stage, "reason": reason, "ended": now})
    registry.end_hold(held.version, state.model_dump_json())
    return held.model_copy(update={"state": state})
