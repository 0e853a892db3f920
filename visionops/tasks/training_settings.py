"""Settings that every training has."""

from __future__ import annotations

from pydantic import Field

from visionops.settings import Settings

__all__ = ["TrainingBase"]


class TrainingBase(Settings):
    """Settings that every training has."""

    seed: int = 0
    """Seed of all random choices of the training."""
    workers: int = Field(default=0, ge=0)
    """Detection: processes that load images, 0: none but the training's. Classification: threads that decode images,
    0: one for each CPU."""
    device: str = "auto"
    """`auto`: a GPU when there is one, else the CPU; or `cpu`, `0`, `0,1`."""
    task: str
    """Task of the use case; a `Literal` in the settings of each task."""

    @property
    def planned_epochs(self) -> int:
        """Return the maximum number of epochs, for a progress bar; 1 where a training has none."""
        return 1
