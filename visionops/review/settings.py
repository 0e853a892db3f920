"""Settings of a use case's review: the section ``review`` of its file."""

from __future__ import annotations

from pydantic import Field, model_validator

from visionops.settings import Settings

__all__ = ["ReviewConfig", "SecondOpinion", "SelectionWeights"]


class SecondOpinion(Settings):
    """Selection of items that two reviewers answer, without seeing each other's answer."""

    share: float = Field(default=0.0, ge=0, le=1)
    """Share of all items, chosen by a hash of their id; items whose label is probably wrong are added. With 0, a single
    reviewer decides."""


class SelectionWeights(Settings):
    """Weight of each reason in the order of the queue; 0 disables it."""

    uncertainty: float = Field(default=1.0, ge=0, le=100)
    """The model is undecided."""
    disagreement: float = Field(default=1.0, ge=0, le=100)
    """The shadow model disagrees."""
    novelty: float = Field(default=0.0, ge=0, le=100)
    """The image is unlike those on which the model was validated."""
    rare: float = Field(default=0.0, ge=0, le=100)
    """The model predicts a class that few labelled images show."""
    diversity: float = Field(default=1.0, ge=0, le=100)
    """The image is unlike those that are labelled or before it in the queue."""

    @model_validator(mode="after")
    def _agree(self) -> SelectionWeights:
        if not any(self.model_dump().values()):
            raise ValueError("all weights are 0, so nothing orders the queue; set one above 0")
        return self


class ReviewConfig(Settings):
    """How a use case is reviewed: the images, their order, and the number of reviewers."""

    selection: SelectionWeights = SelectionWeights()
    """How much each reason counts in the order of the queue."""
    random_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the sampled traffic that is reviewed whatever the prediction, including images without detections: a
    queue built from predictions misses what the model missed. Only these items measure performance."""
    seed: int = Field(default=0, ge=0)
    """Seed of the random share. Another seed draws another share, so keep it while a share is under review."""
    second_opinion: SecondOpinion = SecondOpinion()
    """Which items two reviewers answer."""
