"""Serve with plain FastAPI: a sync endpoint in the thread pool, the image as raw body, an infer request per thread."""

import sys
from typing import Annotated

import uvicorn
from fastapi import Body, FastAPI
from fastapi.responses import JSONResponse

from benchmarks.peers.detector import Detector

detector = Detector.from_environment()
app = FastAPI()


@app.post("/predict")
def predict(image: Annotated[bytes, Body(media_type="image/jpeg")]) -> JSONResponse:
    """Return the detections of one image."""
    return JSONResponse(detector.answer(image))


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False)
