"""Settings of a server process: its options and API keys.

Keys come from a file or the environment only, because every user of the machine can read a command line.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, SecretStr, model_validator

from deploy.serving.models.roles import Bounds, ModelRole
from visionops.inference.release_settings import ReleaseConfig, SplitBy, Strategy
from visionops.inference.server_options import ModelRef, ServerOptions

__all__ = ["Placement", "Settings", "release_placement"]

_ALIAS = "challenger"
"""Registry alias of a release candidate."""


class Placement(ModelRef):
    """A model and its role under its name."""

    role: ModelRole = ModelRole.CHAMPION
    """champion, canary or shadow."""
    share: float | None = Field(default=None, gt=0, le=1)
    """Share of request keys that a canary answers, or of requests that a shadow computes; a shadow's default is all."""
    max_error_rate: float | None = Field(default=None, ge=0, le=1)
    """Bound of a canary, like the three below; see `Bounds` for their meaning and defaults."""
    max_latency_ratio: float | None = Field(default=None, ge=1, allow_inf_nan=False)
    min_agreement: float | None = Field(default=None, ge=0, le=1)
    min_requests: int | None = Field(default=None, ge=1)
    split_by: SplitBy | None = None
    """Key that splits a canary's share if a request sends no X-Request-Key; the API key when absent."""

    @model_validator(mode="after")
    def _agree(self) -> Placement:
        if self.role is ModelRole.CANARY and self.share is None:
            raise ValueError("share: is missing; a canary needs one, such as 0.1")
        if self.role is not ModelRole.CANARY:
            shares = () if self.role is ModelRole.SHADOW else ("share",)
            for name in (*shares, *Bounds.model_fields, "split_by"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name}: is for a canary, not for a {self.role}; remove it")
        Bounds.model_validate(self._bounds())
        return self

    @property
    def bounds(self) -> Bounds:
        """Return the bounds of a canary."""
        return Bounds.model_validate(self._bounds())

    def _bounds(self) -> dict[str, Any]:
        return {name: v for name in Bounds.model_fields if (v := getattr(self, name)) is not None}


class Settings(ServerOptions):
    """Settings of one server process."""

    SECRETS: ClassVar[frozenset[str]] = frozenset({"api_keys", "admin_key"})

    api_keys: SecretStr | None = None
    """The lines of a file of API keys."""
    admin_key: SecretStr | None = None
    """An additional key of role admin; on its own it does not make other routes require a key."""

    def model_ref(self) -> Placement | None:
        """Return the model of ``bundle``; None without one."""
        if self.bundle is None:
            return None
        return Placement.model_validate(self.model_dump(include=set(ModelRef.model_fields)))

    def candidate_ref(self) -> Placement | None:
        """Return the model of ``candidate`` in the role that the release sets; None without one."""
        if self.candidate is None or self.release is None:
            return None
        champion = self.model_dump(include=set(ModelRef.model_fields))
        own = {"bundle": self.candidate, "version": self.candidate_version, "alias": _ALIAS}
        return Placement.model_validate(champion | own | release_placement(self.release))


def release_placement(release: ReleaseConfig) -> dict[str, Any]:
    """Return the fields of a `Placement` that a release sets."""
    if release.strategy is Strategy.SHADOW:
        return {"role": ModelRole.SHADOW, "share": release.share}
    bounds = {name: getattr(release, name) for name in Bounds.model_fields}
    return {"role": ModelRole.CANARY, "share": release.share, "split_by": release.split_by, **bounds}
