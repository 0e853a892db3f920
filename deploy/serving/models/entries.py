"""The models of one name: champion, canary and shadow, and the last error.

An entry is immutable: each change creates a new one, so readers need no lock.
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
    """Keys that decide whether a request belongs to a canary's share; "" belongs to no share."""

    key: str = ""
    """Key of the client: the header X-Request-Key, or the API key, or the request's id."""
    request: str = ""
    """Key of the request: the header X-Request-Key, or the request's id."""

    def cut_by(self, split_by: SplitBy | None) -> str:
        """Return the key that decides under ``split_by``."""
        return self.request if split_by is SplitBy.REQUEST else self.key


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """The model that answers one request, and the models that it is compared with."""

    served: ServedModel
    champion: ServedModel | None = None
    """If a canary answers: the model that answers if it fails, and that it is compared with."""
    bounds: Bounds = dataclasses.field(default_factory=Bounds)
    shadow: ServedModel | None = None
    """Model that computes the same image for comparison."""
    arm: str = ""
    """``canary`` or ``champion`` while a canary has a share; otherwise ""."""
    hold: Hold | None = None
    """Counts the results of both models."""


@dataclasses.dataclass(frozen=True, slots=True)
class Canary:
    """A model that answers a share of the requests, as long as it stays within its bounds."""

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
    """Share of the requests that the shadow computes."""
    hold: Hold | None = None
    """Counts the results of canary or shadow; kept after a canary is withdrawn."""
    failure: dict[str, str] | None = None
    """Error of the last attempt to load a model; None if it succeeded."""
    returned: dict[str, str] | None = None
    """Reason why the last canary was withdrawn."""

    def roles(self) -> Iterator[tuple[ModelRole, ServedModel]]:
        """Yield each model with its role, the champion first."""
        if self.champion:
            yield ModelRole.CHAMPION, self.champion
        if self.canary:
            yield ModelRole.CANARY, self.canary.model
        if self.shadow:
            yield ModelRole.SHADOW, self.shadow

    def choose(self, name: str, version: str, keys: RequestKeys) -> Choice:
        """Choose the model that answers a request for ``name``.

        Args:
            version: Version of the model; "" for the champion, or the canary for its share of keys.
            keys: Keys that decide whether the request belongs to the canary's share.

        Raises:
            NoModel: The name has no champion yet.
            UnknownModel: The name has no model with that version.
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
        """Return the roles and the last errors, as `/models` shows them."""
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
        """Return the entry with ``model`` in its role, and without a load error.

        Raises:
            RoleConflict: The name has no champion, or one for another task.
        """
        match placement.role:
            case ModelRole.CHAMPION:
                # A canary or shadow that becomes champion loses its old role.
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
        """Refuse a canary or shadow without a champion.

        Raises:
            RoleConflict: The name has no champion.
        """
        if placement.role is not ModelRole.CHAMPION and self.champion is None:
            raise RoleConflict(f"{placement.name} has no champion, which a {placement.role} needs; load one first")

    def without(self, role: ModelRole) -> Entry | None:
        """Return the entry without that role; None if the champion is removed, which removes all roles."""
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
    """Return whether ``one`` can be compared with the champion ``new``: another bundle for the same task."""
    return one.digest != new.digest and one.predictor.bundle.card.task == new.predictor.bundle.card.task
