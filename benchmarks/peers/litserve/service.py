"""Serve with LitServe: one worker process per stream, as a worker takes one request at a time; raw image bodies."""

import os
import sys
from typing import Annotated, Any

import litserve
from fastapi import Body

from benchmarks.peers.detector import Detector


class Serving(litserve.LitAPI):
    """API that decodes, runs the engine and applies NMS in the worker."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - as LitServe calls it
        """Load the model, once per worker."""
        self.detector = Detector.from_environment()

    def decode_request(self, request: Annotated[bytes, Body(media_type="image/jpeg")]) -> bytes:
        """Return the unchanged body."""
        return request

    def predict(self, image: bytes) -> dict[str, Any]:
        """Return the detections of one image."""
        return self.detector.answer(image)

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """Return the output, which already has plain values."""
        return output


if __name__ == "__main__":
    server = litserve.LitServer(
        Serving(api_path="/predict"),
        accelerator="cpu",
        workers_per_device=int(os.environ["DETECTOR_WORKERS"]),
        fast_queue=True,
    )
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False, log_level="warning"
    )
