"""BentoML: a sync API in the service's own thread pool, the image as raw body ("root input")."""

from pathlib import Path
from typing import Annotated, Any

import bentoml
from bentoml.validators import ContentType

from benchmarks.peers.detector import Detector


@bentoml.service(workers=1, threads=4, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Serving:
    """One process; OpenVINO's streams do what workers would."""

    def __init__(self) -> None:
        self.detector = Detector.from_environment()

    @bentoml.api(route="/predict")
    def predict(self, image: Annotated[Path, ContentType("image/jpeg")], /) -> dict[str, Any]:
        """Detections of one image; BentoML hands it over as a temporary file."""
        return self.detector.answer(image.read_bytes())
