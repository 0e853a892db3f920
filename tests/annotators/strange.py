"""An annotator that does what ZenML asks for, and nothing of what we do."""

from __future__ import annotations

from zenml.annotators.base_annotator import BaseAnnotatorFlavor

from stacks.annotators.review import ReviewAnnotator

__all__ = ["Strange", "StrangeFlavor"]


class Strange(ReviewAnnotator):
    """Without our port."""

    annotation_tool = property()  # as if there were none


class StrangeFlavor(BaseAnnotatorFlavor):
    """Of somebody who knows nothing of our port."""

    @property
    def name(self):
        return "strange"

    @property
    def implementation_class(self):
        return Strange
