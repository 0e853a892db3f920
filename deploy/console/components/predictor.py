"""Element of the page Predict: send images to an endpoint and draw the predictions over them."""

from __future__ import annotations

from nicegui.element import Element

__all__ = ["Predictor"]


class Predictor(Element, component="predictor.js"):
    """Area to drop, choose or paste images; each is sent to the console, and the prediction is drawn as SVG.

    Args:
        use_case: Use case of the endpoint.
        threshold: Confidence threshold of the model, and the initial threshold of the page.
        can_send: Whether "This is wrong" is offered.
        max_bytes: Largest accepted file.
    """

    def __init__(self, use_case: str, threshold: float, *, can_send: bool, max_bytes: int) -> None:
        super().__init__()
        self._props["use-case"] = use_case
        self._props["first-threshold"] = threshold
        self._props["can-send"] = can_send
        self._props["max-bytes"] = max_bytes
