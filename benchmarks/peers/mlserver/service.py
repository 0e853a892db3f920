"""Serve with MLServer: a custom handler for raw image bodies, with parallel workers as its docs advise."""

from typing import Annotated, Any

from fastapi import Body
from mlserver import MLModel
from mlserver.handlers import custom_handler

from benchmarks.peers.detector import Detector


class Serving(MLModel):
    """Model, one per parallel worker."""

    async def load(self) -> bool:
        """Load the model, once per worker."""
        self.detector = Detector.from_environment()
        return True

    @custom_handler(rest_path="/predict")
    async def detect(self, image: Annotated[bytes, Body(media_type="image/jpeg")]) -> dict[str, Any]:
        """Return the detections of one image."""
        return self.detector.answer(image)
