"""What stands under one name: who answers, who stands in, who looks on, and what went wrong last.

An entry is a value: each change makes a new one, so a reader that holds one needs no lock.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from deploy.serving.errors import NoModel, RoleConflict, UnknownModel
from deploy.serving.models.hold import Hold
from deploy.serving.models.models import ServedModel
from deploy.serving.models.roles import Bounds, ModelRole, in_share
from deploy.serving.settings import Placement
from visionops.inference.release_settings import SplitBy

__all__ = ["Canary", "Choice", "Entry", "RequestKeys"]


@dataclasses.dataclass(frozen=True, slots=True)
class RequestKeys:
    """Keys that decide whether a request is in the share of a canary; "" is in no share."""

    key: str = ""
    """The client's: the header X-Request-Key, else the API key, else the request's id."""
    request: str = ""
    """The request's own: the header X-Request-Key, else the request's id."""

    def cut_by(self, split_by: SplitBy | None) -> str:
        """Return the one that counts."""
        return self.request if split_by is SplitBy.REQUEST else self.key


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """Who answers one request."""

    served: ServedModel
    champion: ServedModel | None = None
    """Where a canary answers: who steps in for it, and whom it is measured against."""
    bounds: Bounds = dataclasses.field(default_factory=Bounds)
    shadow: ServedModel | None = None
    """Who is to be compared with the answer."""
    arm: str = ""
    """canary or champion, where a canary has a share; else ""."""
    hold: Hold | None = None
    """Where it is counted how the two models do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Canary:
    """A model that answers a share of the requests, as long as it keeps its bounds."""

    model: ServedModel
    share: float
    bounds: Bounds
    split_by: SplitBy | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """The models of one name."""

    champion: ServedModel | None = None
    canary: Canary | None = None
    shadow: ServedModel | None = None
    shadow_share: float = 1.0
    """Of the requests: those that the shadow computes."""
    hold: Hold | None = None
    """Counts how canary or shadow do; stays when the canary was sent away."""
    failure: dict[str, str] | None = None
    """What was wrong with the last model that was to be loaded; None when it went well."""
    returned: dict[str, str] | None = None
    """Why the last canary was sent away."""

    def roles(self) -> Iterator[tuple[ModelRole, ServedModel]]:
        """Yield each model with its role, the champion first."""
        if self.champion:
            yield ModelRole.CHAMPION, self.champion
        if self.canary:
            yield ModelRole.CANARY, self.canary.model
        if self.shadow:
            yield ModelRole.SHADOW, self.shadow

    def choose(self, name: str, version: str, keys: RequestKeys) -> Choice:
        """Choose who answers a request for ``name``.

        Args:
            version: "": the champion, or the canary for its share of keys.
            keys: What the share is cut by.

        Raises:
            NoModel: There is no champion yet.
            UnknownModel: There is no model of that version.
        """
        if version:
            for _, model in self.roles():
                if model.ref.version == version:
                    return Choice(model)
            raise UnknownModel(f"model {name!r} is not served in version {version!r}")
        if self.champion is None:
            why = f": {self.failure['message']}" if self.failure else ""
            raise NoModel(f"model {name!r} is not loaded{why}")
        shadow = self.shadow
        if shadow and not in_share(self.shadow_share, keys.request, f"{name}\0{shadow.ref.version}"):
            shadow = None
        canary = self.canary
        if canary is None:
            return Choice(self.champion, shadow=shadow, hold=self.hold if shadow else None)
        key = keys.cut_by(canary.split_by)
        if key and in_share(canary.share, key, f"{name}\0{canary.model.ref.version}"):
            return Choice(canary.model, self.champion, canary.bounds, arm=ModelRole.CANARY.value, hold=self.hold)
        return Choice(self.champion, shadow=shadow, arm=ModelRole.CHAMPION.value, hold=self.hold)

    def status(self) -> dict[str, Any]:
        """Return the roles, and what went wrong last, as `/models` shows them."""
        roles: dict[str, Any] = {
            role.value: served.summary() | {"last_images": served.record.summary()} for role, served in self.roles()
        }
        if self.canary:
            roles["canary"] |= {"share": self.canary.share, **self.canary.bounds.model_dump()}
        return {
            "ready": self.champion is not None,
            "roles": roles,
            "last_failure": self.failure,
            "last_return": self.returned,
        }

    def with_model(self, model: ServedModel, placement: Placement) -> Entry:
        """Return the entry with ``model`` in its role, and no failure.

        Raises:
            RoleConflict: There is no champion to stand beside, or it answers another task.
        """
        match placement.role:
            case ModelRole.CHAMPION:
                # Who becomes champion is no longer the canary or the shadow of itself.
                canary = self.canary if self.canary and _differs(self.canary.model, model) else None
                shadow = self.shadow if self.shadow and _differs(self.shadow, model) else None
                hold = self.hold if canary or shadow else None
                new = dataclasses.replace(self, champion=model, canary=canary, shadow=shadow, hold=hold)
            case ModelRole.CANARY:
                self.check_stands_beside(placement)
                self._refuse_other_task(model)
                canary = Canary(model, placement.share or 0.0, placement.bounds, placement.split_by)
                new = dataclasses.replace(self, canary=canary, returned=None)
            case ModelRole.SHADOW:
                self.check_stands_beside(placement)
                self._refuse_other_task(model)
                new = dataclasses.replace(self, shadow=model, shadow_share=placement.share or 1.0)
        return dataclasses.replace(new, failure=None)

    def check_stands_beside(self, placement: Placement) -> None:
        """Refuse a role for which there must be a champion.

        Raises:
            RoleConflict: There is none.
        """
        if placement.role is not ModelRole.CHAMPION and self.champion is None:
            raise RoleConflict(f"{placement.name} has no champion to be a {placement.role} of; load that first")

    def without(self, role: ModelRole) -> Entry | None:
        """Return the entry without that role; None without a champion, with whom all its roles go."""
        match role:
            case ModelRole.CHAMPION:
                return None
            case ModelRole.CANARY:
                return dataclasses.replace(self, canary=None, hold=None)
            case ModelRole.SHADOW:
                return dataclasses.replace(self, shadow=None, hold=None)

    def _refuse_other_task(self, model: ServedModel) -> None:
        assert self.champion is not None
        ours, theirs = (m.predictor.bundle.card.task for m in (model, self.champion))
        if ours != theirs:
            raise RoleConflict(f"{model.ref.name} version {model.ref.version} answers {ours}, the champion {theirs}")


def _differs(one: ServedModel, new: ServedModel) -> bool:
    """Return whether ``one`` makes sense beside the champion ``new``: another bundle that answers the same task."""
    return one.digest != new.digest and one.predictor.bundle.card.task == new.predictor.bundle.card.task
