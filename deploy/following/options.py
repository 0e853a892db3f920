"""Options of the follower, and the key by which it switches models."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, SecretStr, model_validator

from visionops.options import CommandOptions

__all__ = ["FollowOptions"]


class FollowOptions(CommandOptions):
    """One server, and the model that it is kept on."""

    PROGRAM: ClassVar[str] = "python -m deploy.following"
    DESCRIPTION: ClassVar[str] = "Keeps a prediction server on the version that has an alias in the model registry."
    SECRETS: ClassVar[frozenset[str]] = frozenset({"admin_key"})

    name: str = ""
    """Registered model."""
    alias: str = "champion"
    """Alias of the version to serve."""
    registry: str = "http://127.0.0.1:5000"
    """Address of MLflow."""
    server: str = "http://127.0.0.1:8000"
    """Address of the prediction server."""
    bundles: Path = Path("bundles")
    """Folder for bundles, at the same path on the server's side."""
    every: float = Field(default=10, gt=0, le=3600)
    """Seconds between two looks at the registry."""
    patience: float = Field(default=120, gt=0, le=3600)
    """Seconds that the server may take to load a model."""
    check: bool = False
    """Only check that the server has the version now; exit code 2 where it does not."""
    admin_key: SecretStr | None = None
    """Key of role admin."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not self.name:
            raise ValueError("--name: is missing; give the name of the registered model")
        return self
