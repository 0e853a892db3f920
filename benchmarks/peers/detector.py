"""Run one image through the same decoder, letterbox, graph and NMS as ours, for every peer.

Only the engine's setup differs by peer: `DETECTOR_HINT` is OpenVINO's performance hint, `DETECTOR_THREADS` the number
of threads per process, `DETECTOR_BUNDLE` the folder of the model bundle.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from visionops.inference.bundle import ModelBundle
from visionops.inference.decoders import RawOutput, decoder_for
from visionops.inference.image import decode_image
from visionops.inference.prediction import Prediction
from visionops.inference.preprocessing import preprocess
from visionops.inference.settings import Precision
from visionops.telemetry import forbid_telemetry

__all__ = ["Detector"]


class Detector:
    """A loaded graph that is thread-safe, as each thread has its own infer request."""

    def __init__(self, folder: Path, hint: str, threads: int) -> None:
        forbid_telemetry()
        import openvino

        bundle = ModelBundle.load(folder)
        self._card = bundle.card
        self._decoder = decoder_for(self._card, self._card.thresholds)
        self._compiled = openvino.Core().compile_model(
            str(bundle.model_path),
            "CPU",
            {
                "PERFORMANCE_HINT": hint,
                "INFERENCE_PRECISION_HINT": "bf16" if self._card.precision is Precision.BF16 else "f32",
                "INFERENCE_NUM_THREADS": threads,
                # With pinning, all worker processes of a server would share the first core.
                "ENABLE_CPU_PINNING": False,
            },
        )
        self._own = threading.local()

    @classmethod
    def from_environment(cls) -> Detector:
        """Return a detector with the settings in this process's environment."""
        environment = os.environ
        return cls(
            Path(environment["DETECTOR_BUNDLE"]), environment["DETECTOR_HINT"], int(environment["DETECTOR_THREADS"])
        )

    def answer(self, image: bytes) -> dict[str, Any]:
        """Return ``{"detections": [...]}`` for one encoded image."""
        return self.predict(image).to_dict()

    def predict(self, image: bytes) -> Prediction:
        """Decode an image, letterbox it, run the engine and apply NMS."""
        tensor, geometry = preprocess(decode_image(image), self._card.preprocessing)
        outputs = self._request().infer({0: tensor}, share_inputs=True).to_tuple()
        return self._decoder.decode([RawOutput(outputs, geometry)], {})

    def _request(self) -> Any:
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        return self._own.request
