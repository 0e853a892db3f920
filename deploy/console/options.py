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
    """Options of one process of the console."""

    PROGRAM: ClassVar[str] = "visionops console"
    DESCRIPTION: ClassVar[str] = (
        "Open the console: predict, review, search, train and watch models in a browser. Without users it serves this "
        "machine only; add the first one with `visionops user add NAME --role admin`."
    )

    SECRETS: ClassVar[frozenset[str]] = frozenset({"api_keys", "oidc_client_secret"})

    host: str = "127.0.0.1"
    """Address to listen on; one for other machines requires users."""
    port: int = Field(default=8200, ge=0, le=65535)
    """Port to listen on; 0: any free port."""
    starts_runs: bool = True
    """Start the runs of the queue; set to false if a control service on the same database does this."""
    max_upload_bytes: int = Field(default=20_000_000, ge=1)
    """Largest accepted image file."""
    max_connections: int = Field(default=512, ge=1, le=100_000)
    """Maximum number of connections; further ones get 503."""
    idle_timeout: float = Field(default=75, gt=0, le=3600)
    """Seconds that a connection may be idle."""
    log_file: Path | None = None
    """Log file with JSON lines, rotated at 10 MB; console/console.log below $VISIONOPS_HOME when absent."""
    public_url: str = ""
    """Public address behind a proxy, such as https://console.example.com; https restricts cookies to HTTPS."""
    trusted_proxies: Annotated[tuple[str, ...], BeforeValidator(comma_separated)] = ()
    """Addresses of proxies whose X-Forwarded-For is trusted, separated by commas."""
    session_hours: float = Field(default=12, gt=0, le=720)
    """Hours until a session ends and the user must sign in again."""
    session_idle_hours: float = Field(default=2, gt=0, le=720)
    """Hours without use after which a session ends."""
    keys: Path | None = None
    """File of API keys that may read /metrics, of any role: id role sha256:hex."""
    open_metrics: bool = False
    """Serve /metrics without a key."""
    oidc_issuer: str = ""
    """Address of the identity provider, without /.well-known/openid-configuration."""
    oidc_client_id: str = ""
    """Client id of this console at the identity provider."""
    oidc_name_claim: str = "preferred_username"
    """Claim that becomes the user's name."""
    oidc_role_claim: str = ""
    """Claim, such as groups, that sets the role at every login; without it, admins set roles in the console."""
    oidc_roles: Annotated[tuple[str, ...], BeforeValidator(comma_separated)] = ()
    """Role for each value of the claim: line-leads=reviewer,vision=engineer; the highest matching role counts."""
    oidc_default_role: UserRole = UserRole.VIEWER
    """Role of users without a matching value."""
    oidc_scope: str = "openid profile"
    """Scopes to request from the identity provider."""
    api_keys: SecretStr | None = None
    """The lines of a file of API keys."""
    oidc_client_secret: SecretStr | None = None
    """Client secret of this console at the identity provider."""

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^/?#@\s]+/?", value):
            raise ValueError("expected https://host or http://host, with an optional port and no path")
        return value.rstrip("/")

    @field_validator("oidc_roles")
    @classmethod
    def _check_roles(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if one.rpartition("=")[2] not in set(UserRole) or not one.rpartition("=")[0]:
                raise ValueError(f"expected VALUE=ROLE with a role of {', '.join(UserRole)}")
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
        """Return the host of the identity provider, as the login page shows it; "" without one."""
        return urlsplit(self.oidc_issuer).netloc

    @property
    def is_https(self) -> bool:
        """Return whether browsers connect by HTTPS."""
        return self.public_url.startswith("https://")

    @property
    def session_rules(self) -> SessionRules:
        """Return the rules for the end of a session."""
        return SessionRules(timedelta(hours=self.session_hours), timedelta(hours=self.session_idle_hours))

    def claimed_role(self, values: Collection[str]) -> UserRole | None:
        """Return the highest role of the claim's values; None if no value matches."""
        pairs = [one.rpartition("=") for one in self.oidc_roles]
        given = {UserRole(role) for value, _, role in pairs if value in values}
        return max(given, key=list(UserRole).index, default=None)
