"""Options of the console."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from deploy.control.options import WorkOptions
from visionops.options import comma_separated
from visionops.review.users import SessionRules, UserRole

__all__ = ["ConsoleOptions"]


class ConsoleOptions(WorkOptions):
    """One process of the console."""

    PROGRAM: ClassVar[str] = "visionops console"
    DESCRIPTION: ClassVar[str] = (
        "Open the console: predict, review, search, train and watch models in a browser. Without users it serves this "
        "machine only; `visionops user add NAME --role admin` makes the first one."
    )

    SECRETS: ClassVar[frozenset[str]] = frozenset({"api_keys", "oidc_client_secret"})

    host: str = "127.0.0.1"
    """Address to listen on; another than this machine's needs users."""
    port: int = Field(default=8200, ge=0, le=65535)
    """Port to listen on; 0: any free port."""
    starts_runs: bool = True
    """Start the runs of the queue; false where a control service over the same database does."""
    max_upload_bytes: int = Field(default=20_000_000, ge=1)
    """Largest accepted image file."""
    max_connections: int = Field(default=512, ge=1, le=100_000)
    """Connections at once; more are refused with 503."""
    idle_timeout: float = Field(default=75, gt=0, le=3600)
    """Seconds a connection may stay without a request in work."""
    log_file: Path | None = None
    """JSON lines go here, rotated at 10 MB; to console/console.log below $VISIONOPS_HOME when absent."""
    public_url: str = ""
    """Address in the browser behind a proxy, as https://console.example.com; with https, cookies go by HTTPS alone."""
    trusted_proxies: Annotated[tuple[str, ...], BeforeValidator(comma_separated)] = ()
    """Addresses of proxies whose X-Forwarded-For names the client, separated by commas."""
    session_hours: float = Field(default=12, gt=0, le=720)
    """Hours from a login to the next."""
    session_idle_hours: float = Field(default=2, gt=0, le=720)
    """Hours without use after which a session ends."""
    keys: Path | None = None
    """File of API keys, of which one of any role reads /metrics: id role sha256:hex."""
    open_metrics: bool = False
    """Serve /metrics to whoever asks."""
    oidc_issuer: str = ""
    """Identity provider: its address, below which /.well-known/openid-configuration lies."""
    oidc_client_id: str = ""
    """What the identity provider calls this console."""
    oidc_name_claim: str = "preferred_username"
    """Claim that becomes the user's name."""
    oidc_role_claim: str = ""
    """Claim, as groups, that says the role at every login; without it, admins give roles in the console."""
    oidc_roles: Annotated[tuple[str, ...], BeforeValidator(comma_separated)] = ()
    """Which value of the claim gives which role: line-leads=reviewer,vision=engineer; the highest counts."""
    oidc_default_role: UserRole = UserRole.VIEWER
    """Role of who has none by the claim."""
    oidc_scope: str = "openid profile"
    """What is wanted of the identity provider."""
    api_keys: SecretStr | None = None
    """The lines of a file of API keys."""
    oidc_client_secret: SecretStr | None = None
    """What this console shows the identity provider."""

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^/?#@\s]+/?", value):
            raise ValueError("must be https://host or http://host, with a port if need be and no path")
        return value.rstrip("/")

    @field_validator("oidc_roles")
    @classmethod
    def _check_roles(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if one.rpartition("=")[2] not in set(UserRole) or not one.rpartition("=")[0]:
                raise ValueError(f"must be VALUE=ROLE with a role of {', '.join(UserRole)}")
        return value

    @model_validator(mode="after")
    def _check_oidc(self) -> Self:
        if self.oidc_issuer and not (self.oidc_client_id and self.oidc_client_secret):
            raise ValueError(
                "--oidc-issuer: also needs --oidc-client-id, and VISIONOPS_OIDC_CLIENT_SECRET in the environment"
            )
        return self

    @property
    def provider(self) -> str:
        """Host of the identity provider, as the login shows it; empty without one."""
        return urlsplit(self.oidc_issuer).netloc

    @property
    def is_https(self) -> bool:
        """Whether browsers come by HTTPS."""
        return self.public_url.startswith("https://")

    @property
    def session_rules(self) -> SessionRules:
        """How long a session goes on."""
        return SessionRules(timedelta(hours=self.session_hours), timedelta(hours=self.session_idle_hours))

    def claimed_role(self, values: Collection[str]) -> UserRole | None:
        """Return the highest role that the values of the claim give; None where they give none."""
        pairs = [one.rpartition("=") for one in self.oidc_roles]
        given = {UserRole(role) for value, _, role in pairs if value in values}
        return max(given, key=list(UserRole).index, default=None)
