"""An annotator that does what ZenML asks for, and nothing of what we do."""

from __future__ import annotations

from zenml.annotators.base_annotator import BaseAnnotatorFlavor

from stacks.annotators.review import ReviewAnnotator

__all__ = ["Strange", "StrangeFlavor"]


class Strange(ReviewAnnotator):
    """Annotator that does not implement our port."""

    annotation_tool = property()  # as if there were none


class StrangeFlavor(BaseAnnotatorFlavor):
    """Flavor of such an annotator, as a third party would write it."""

    @property
    def name(self):
        return "strange"

    @property
    def implementation_class(self):
        return Strange
