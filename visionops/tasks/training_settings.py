"""What the settings of every training have."""

from __future__ import annotations

from pydantic import Field

from visionops.settings import Settings

__all__ = ["TrainingBase"]


class TrainingBase(Settings):
    """What every training has."""

    seed: int = 0
    workers: int = Field(default=0, ge=0)
    device: str = "auto"
    """`auto`: a GPU when there is one, else the CPU; or `cpu`, `0`, `0,1`."""
