"""Serve with Seldon's Python wrapper: `predict_raw` on the raw payload, threads in one gunicorn worker."""

import json

from benchmarks.peers.detector import Detector


class Serving:
    """Model that the command line names as `service.Serving`."""

    def load(self) -> None:
        """Load the model, once per gunicorn worker."""
        self.detector = Detector.from_environment()

    def predict_raw(self, request: bytes) -> bytes:
        """Return the detections of one image."""
        return json.dumps(self.detector.answer(request)).encode()
