"""LitServe: one worker process per stream, because a worker takes one request at a time; the image as raw body."""

import os
import sys
from typing import Annotated, Any

import litserve
from fastapi import Body

from benchmarks.peers.detector import Detector


class Serving(litserve.LitAPI):
    """Decoding, engine and NMS, all in the worker."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - as LitServe calls it
        """Once per worker."""
        self.detector = Detector.from_environment()

    def decode_request(self, request: Annotated[bytes, Body(media_type="image/jpeg")]) -> bytes:
        """The body as it came."""
        return request

    def predict(self, image: bytes) -> dict[str, Any]:
        """Detections of one image."""
        return self.detector.answer(image)

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """Already plain values."""
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
