"""Images in, answers drawn over them: what the page Predict does in the browser."""

from __future__ import annotations

from nicegui.element import Element

__all__ = ["Predictor"]


class Predictor(Element, component="predictor.js"):
    """A place to drop, choose or paste images; each is sent to the console, and the answer drawn as SVG.

    Args:
        use_case: Whose endpoint answers.
        threshold: Confidence from which the model answers by itself; from it on, answers are shown at first.
        can_send: Whether "This is wrong" is offered.
        max_bytes: Largest accepted file.
    """

    def __init__(self, use_case: str, threshold: float, *, can_send: bool, max_bytes: int) -> None:
        super().__init__()
        self._props["use-case"] = use_case
        self._props["first-threshold"] = threshold
        self._props["can-send"] = can_send
        self._props["max-bytes"] = max_bytes
