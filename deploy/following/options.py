"""Options of the follower, and its admin key."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_core import PydanticCustomError

from visionops.inference.settings import Device, EngineName
from visionops.options import CommandOptions
from visionops.registry import CHAMPION

__all__ = ["FollowOptions"]


class FollowOptions(CommandOptions):
    """Options for one server and its model."""

    PROGRAM: ClassVar[str] = "python -m deploy.following"
    DESCRIPTION: ClassVar[str] = "Keeps a prediction server on the version that has an alias in the model registry."
    SECRETS: ClassVar[frozenset[str]] = frozenset({"admin_key"})

    model: str = ""
    """Registered model and alias of the version to serve, NAME@ALIAS; @champion without an alias."""
    registry: str = "http://127.0.0.1:5000"
    """Address of MLflow."""
    server: str = "http://127.0.0.1:8000"
    """Address of the prediction server."""
    bundles: Path = Path("bundles")
    """Folder for bundles, which the server must see at the same path."""
    engine: EngineName = EngineName.OPENVINO
    """Inference engine: openvino or onnxruntime."""
    device: Device = Device.CPU
    """Device of the engine: cpu or gpu."""
    confidence: float | None = Field(default=None, ge=0, le=1)
    """Lowest score of a detection; the bundle's own when absent."""
    iou: float | None = Field(default=None, ge=0, le=1)
    """Overlap above which NMS drops the weaker box; the bundle's own when absent."""
    max_upload_bytes: int = Field(default=20_000_000, ge=1)
    """Largest accepted image file."""
    every: float = Field(default=10, gt=0, le=3600)
    """Seconds between two checks of the registry."""
    patience: float = Field(default=120, gt=0, le=3600)
    """Seconds that the server may take to load a model."""
    check: bool = False
    """Only check whether the server has the version now; exit code 2 if it does not."""
    admin_key: SecretStr | None = None
    """Key of role admin."""

    @field_validator("model")
    @classmethod
    def _name_and_alias(cls, model: str) -> str:
        name, alias = _split(model)
        if not name or not alias:
            missing = "alias" if name else "name"
            raise PydanticCustomError("model", "has no {missing}; expected NAME@ALIAS", {"missing": missing})
        return model

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not self.model:
            raise ValueError("--model: is missing; give NAME@ALIAS, such as steel@champion")
        return self

    @property
    def name(self) -> str:
        """Return the registered model."""
        return _split(self.model)[0]

    @property
    def alias(self) -> str:
        """Return the alias of the version to serve."""
        return _split(self.model)[1]


def _split(model: str) -> tuple[str, str]:
    name, at, alias = model.rpartition("@")
    return (name.strip(), alias.strip()) if at else (model.strip(), CHAMPION)
