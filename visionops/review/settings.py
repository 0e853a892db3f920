"""How a use case is reviewed: the section ``review`` of its file."""

from __future__ import annotations

from pydantic import Field, model_validator

from visionops.settings import Settings

__all__ = ["ReviewConfig", "SecondOpinion", "SelectionWeights"]


class SecondOpinion(Settings):
    """Which items two reviewers answer, neither of whom sees the other's answer."""

    share: float = Field(default=0.0, ge=0, le=1)
    """Of all items, chosen by a hash of their id; items whose present label is probably wrong are added. 0: none, a
    single reviewer decides."""


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
    """How a use case is reviewed: which images, in which order, by how many people."""

    selection: SelectionWeights = SelectionWeights()
    """How much each reason counts in the order of the queue."""
    random_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the sampled traffic that is reviewed whatever the model says of it, images without detections included:
    a queue built from the model's answers is blind to what it missed. Only these items feed performance estimates."""
    seed: int = Field(default=0, ge=0)
    """Of the random share. Another seed draws another share, so keep it while a share is under review."""
    second_opinion: SecondOpinion = SecondOpinion()
    """Which items two reviewers answer."""
