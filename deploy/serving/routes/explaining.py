"""Compute saliency maps for `POST /explain`, one image at a time.

An explanation costs as much as dozens of predictions. It runs on a separate thread, so that it delays no prediction.
While it runs, further requests for an explanation are refused instead of queued.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from starlette.responses import JSONResponse, Response

from deploy.http.errors import Busy
from deploy.serving.models.models import ServedModel
from visionops.inference.explain import Saliency, draw_saliency, explain
from visionops.inference.prediction import Prediction

__all__ = ["Explainer"]

_MAX_SIDE = 1024
"""Maximum length of the longer side of a returned picture, in pixels; uploads may be far larger."""


class Explainer:
    """Explain one image at a time."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="explain")
        self._turn = asyncio.Lock()

    async def respond(
        self, served: ServedModel, data: bytes, options: Mapping[str, float], grid: int, *, as_json: bool
    ) -> Response:
        """Return the explanation of one image as a PNG, or as JSON.

        Raises:
            Busy: Another image is being explained.
            ImageError: The upload cannot be used.
            OptionError: The task has no such option.
        """
        if self._turn.locked():
            raise Busy("another image is being explained; try again in a second")
        async with self._turn:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, _respond, served, data, options, grid, as_json)

    def close(self) -> None:
        """Wait for the running explanation."""
        self._thread.shutdown()


def _respond(served: ServedModel, data: bytes, options: Mapping[str, float], grid: int, as_json: bool) -> Response:
    start = time.perf_counter()
    pixels = served.predictor.pixels(data, where="upload")
    saliency, prediction = explain(served.predictor, pixels, options, grid=grid, where="upload")
    if as_json:
        return JSONResponse(_body(served, saliency, prediction, (time.perf_counter() - start) * 1000))
    return Response(_png(pixels, saliency), media_type="image/png")


def _body(served: ServedModel, saliency: Saliency, prediction: Prediction, total_ms: float) -> dict[str, Any]:
    return {
        "model": served.identity,
        "image": {"width": prediction.width, "height": prediction.height},
        **prediction.to_dict(),
        "saliency": {
            "box": [round(v, 3) for v in saliency.box],
            "grid": [[round(v, 6) for v in row] for row in saliency.grid.tolist()],
        },
        "timing_ms": {"total": round(total_ms, 3)},
    }


def _png(pixels: npt.NDArray[np.uint8], saliency: Saliency) -> bytes:
    shown = Image.fromarray(pixels)
    shown.thumbnail((_MAX_SIDE, _MAX_SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    buffer = io.BytesIO()
    Image.fromarray(draw_saliency(np.asarray(shown), saliency)).save(buffer, format="PNG")
    return buffer.getvalue()
