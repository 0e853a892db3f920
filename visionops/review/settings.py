"""How a use case's images are reviewed."""

from __future__ import annotations

from pydantic import Field, model_validator

from visionops.settings import Settings

__all__ = ["ReviewConfig", "SelectionWeights"]


class SelectionWeights(Settings):
    """How much each reason counts in the order of the queue; 0: not at all."""

    uncertainty: float = Field(default=1.0, ge=0, le=100)
    """The model is undecided."""
    disagreement: float = Field(default=1.0, ge=0, le=100)
    """The shadow model answers otherwise."""
    novelty: float = Field(default=0.0, ge=0, le=100)
    """The image is unlike those that the model was validated on."""
    rare: float = Field(default=0.0, ge=0, le=100)
    """The model sees a class that few labelled images show."""
    diversity: float = Field(default=1.0, ge=0, le=100)
    """The image is unlike those that are labelled or stand before it in the queue."""

    @model_validator(mode="after")
    def _agree(self) -> SelectionWeights:
        if not any(self.model_dump().values()):
            raise ValueError("all weights are 0, so nothing orders the queue; leave one above 0")
        return self


class ReviewConfig(Settings):
    """Which images people review, and in which order."""

    selection: SelectionWeights = SelectionWeights()
    random_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the queue that is drawn at random, whatever the model says: it alone feeds the estimate of performance,
    and finds what the model misses."""
    seed: int = Field(default=0, ge=0)
    """Of the random share. Another seed draws another share, so keep it while a share is under review."""
