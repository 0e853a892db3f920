"""Begin, check and end releases over the registry and the endpoint, so that an interruption loses nothing.

The candidate version has the alias ``candidate`` and the tag ``visionops.release``, a `ReleaseState`, so every process
can find it. A verdict is written before it is carried out, so that the next look continues after a kill.
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
    """Stage of a release."""

    HELD = "held"
    PROMOTING = "promoting"
    """Promotion decided; endpoint and alias may not have moved yet."""
    RETURNING = "returning"
    """Rollback decided; the endpoint may not be restored yet."""
    PROMOTED = "promoted"
    RETURNED = "returned"
    SUPERSEDED = "superseded"
    """Another version was released, or the champion changed, before a decision."""


class ReleaseState(BaseModel):
    """State of a release, stored as a tag on the candidate version."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    stage: Stage
    release: ReleaseConfig
    champion: str
    """Version of the champion beside it."""
    since: datetime
    """Begin of the hold; aware."""
    reason: str = ""
    """Reason for the promotion or rollback."""
    by: str = ""
    """Person who decided; empty where the figures decided."""
    ended: datetime | None = None
    figures: dict[str, float | int | None] = {}
    """`Figures.summary` at the time of the decision."""


class Held(BaseModel):
    """A candidate version beside a champion."""

    model_config = ConfigDict(frozen=True)

    version: RegisteredVersion
    state: ReleaseState


def release_state(version: RegisteredVersion) -> ReleaseState | None:
    """Return the state of the release of a version; None where it had none."""
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
    """Return the candidate beside the champion of ``name``; None where there is none."""
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
    """Fetch the bundle of ``version``, check it and deploy it as the champion.

    Args:
        images: Encoded images that a new model must answer before it gets traffic.
        candidate: Candidate to deploy beside it; None removes the current one.
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
    """Deploy ``version`` beside the champion, as ``serving.release`` says; a current candidate continues.

    Raises:
        DeploymentError: It does not load or does not answer; the champion answers all requests.
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
    """Return the current candidate and the decision on it. Changes nothing.

    Raises:
        RegistryError: There is no candidate.
        DeploymentError: The endpoint does not report its figures.
    """
    held = _held(registry, name)
    state, version = held.state, held.version.version
    if state.stage in {Stage.PROMOTING, Stage.RETURNING}:  # the process that decided was interrupted
        action = Action.PROMOTE if state.stage is Stage.PROMOTING else Action.RETURN
        return held, Verdict(action=action, reason=state.reason, figures=Figures())
    return held, decide(state.release, version, deployer.release_reports(name), state.since, now)


def settle(
    registry: ModelRegistry, deployer: EndpointDeployer, name: str, serving: ServingConfig, now: datetime
) -> tuple[Held, Verdict]:
    """Check the candidate, and promote it, roll it back, or keep it on hold.

    The endpoint moves first and the alias after, as in every release. A champion that changed meanwhile ends the
    release without a verdict.

    Raises:
        RegistryError: There is no candidate.
        DeploymentError: The endpoint does not report its figures, or cannot be switched; the next look tries again.
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
    """Promote the candidate before its hold is over, on request of a person.

    Raises:
        RegistryError: There is no candidate, or its servers rolled it back.
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
    """Roll the candidate back on request of a person; the endpoint need not report its figures.

    Raises:
        RegistryError: There is no candidate.
    """
    verdict = Verdict(action=Action.RETURN, reason=reason, figures=Figures())
    return _take_back(registry, deployer, _held(registry, name), verdict, serving, now, by)


def _held(registry: ModelRegistry, name: str) -> Held:
    if held := find_held(registry, name):
        return held
    raise RegistryError(
        f"{name}: there is no candidate beside the champion; set serving.release.strategy to canary or shadow and train"
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
        return held  # decided before, from figures that no longer exist
    figures = verdict.figures.summary() if verdict.figures.heard else {}
    change = {"stage": stage, "reason": verdict.reason, "by": by, "figures": figures}
    return held.model_copy(update={"state": held.state.model_copy(update=change)})


def _end(registry: ModelRegistry, held: Held, stage: Stage, reason: str, now: datetime) -> Held:
    state = held.state.model_copy(update={"stage": stage, "reason": reason, "ended": now})
    registry.end_hold(held.version, state.model_dump_json())
    return held.model_copy(update={"state": state})
