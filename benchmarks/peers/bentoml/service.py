"""Serve with BentoML: a sync API in the service's own thread pool, the image as raw body ("root input")."""

from pathlib import Path
from typing import Annotated, Any

import bentoml
from bentoml.validators import ContentType

from benchmarks.peers.detector import Detector


@bentoml.service(workers=1, threads=4, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Serving:
    """Service in one process, which uses OpenVINO's streams instead of workers."""

    def __init__(self) -> None:
        self.detector = Detector.from_environment()

    @bentoml.api(route="/predict")
    def predict(self, image: Annotated[Path, ContentType("image/jpeg")], /) -> dict[str, Any]:
        """Return the detections of one image, which BentoML passes as a temporary file."""
        return self.detector.answer(image.read_bytes())
