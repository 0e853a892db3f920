"""Define ZenML annotator flavor ``visionops_review``.

Only ZenML is imported at the top: every `zenml` command loads this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zenml.annotators.base_annotator import BaseAnnotatorConfig, BaseAnnotatorFlavor

if TYPE_CHECKING:
    from stacks.annotators.review import ReviewAnnotator

__all__ = ["ReviewAnnotatorConfig", "ReviewAnnotatorFlavor"]


class ReviewAnnotatorConfig(BaseAnnotatorConfig):
    """Settings of the review; VISIONOPS_REVIEW_DATABASE and VISIONOPS_REVIEW_IMAGES set its database and images."""

    url: str = ""
    """URL of the pages for reviewers; "" for none."""


class ReviewAnnotatorFlavor(BaseAnnotatorFlavor):
    """Registers `ReviewAnnotator` with ZenML."""

    @property
    def name(self) -> str:
        """Return the name of the flavor."""
        return "visionops_review"

    @property
    def config_class(self) -> type[ReviewAnnotatorConfig]:
        """Return the class of the component's settings."""
        return ReviewAnnotatorConfig

    @property
    def implementation_class(self) -> type[ReviewAnnotator]:
        """Return the class of the component."""
        from stacks.annotators.review import ReviewAnnotator

        return ReviewAnnotator
