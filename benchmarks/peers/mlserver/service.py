"""MLServer: a custom handler that takes the image as raw body; parallel workers, as its docs advise for sync models."""

from typing import Annotated, Any

from fastapi import Body
from mlserver import MLModel
from mlserver.handlers import custom_handler

from benchmarks.peers.detector import Detector


class Serving(MLModel):
    """One per parallel worker."""

    async def load(self) -> bool:
        """Once per worker."""
        self.detector = Detector.from_environment()
        return True

    @custom_handler(rest_path="/predict")
    async def detect(self, image: Annotated[bytes, Body(media_type="image/jpeg")]) -> dict[str, Any]:
        """Detections of one image."""
        return self.detector.answer(image)
