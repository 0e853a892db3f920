"""Seldon's Python wrapper: `predict_raw` with the payload passed through, threads in one gunicorn worker."""

import json

from benchmarks.peers.detector import Detector


class Serving:
    """Named on the command line as `service.Serving`."""

    def load(self) -> None:
        """Once per gunicorn worker."""
        self.detector = Detector.from_environment()

    def predict_raw(self, request: bytes) -> bytes:
        """Detections of one image."""
        return json.dumps(self.detector.answer(request)).encode()
