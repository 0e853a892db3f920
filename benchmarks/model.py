"""Create the benchmark's model, a YOLOv8n with random weights that answers like a trained one, and its images.

Random weights are as fast as trained ones, but postprocessing depends on the number of candidates above the confidence
threshold. The threshold is chosen so that an image has a few dozen candidates and some boxes, as with real models.
"""

from __future__ import annotations

import io
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from visionops.data.settings import SampleSource
from visionops.home import visionops_home
from visionops.inference.bundle import BundleCard, Decode, ModelBundle, Thresholds
from visionops.inference.predictor import Predictor
from visionops.inference.preprocessing_spec import PreprocessingSpec

__all__ = ["choose_confidence", "is_same", "make_detector", "make_images"]

_VERSION = 1  # version of the cache: raise it when `make_detector` changes
_IMAGES = 16
_IOU = 0.45
_CANDIDATES = 40
"""Average number of candidates per image above the threshold, before NMS."""


def make_images() -> tuple[str, list[bytes]]:
    """Return a source and 16 JPEGs of 640 x 480, quality 90: castings, or rendered surfaces if there are none."""
    castings = sorted((Path(__file__).resolve().parents[2] / "shared" / "data" / "casting").rglob("*.jp*g"))
    if len(castings) >= _IMAGES:
        pictures = [Image.open(path).convert("RGB") for path in castings[:: len(castings) // _IMAGES][:_IMAGES]]
        return "castings", [_jpeg(picture) for picture in pictures]
    from visionops.data.sample.reliefs import Defect
    from visionops.data.sample.surfaces import render_surface

    source = SampleSource(kind="sample", size=640)
    surfaces = [render_surface(source, [seed], [*Defect]).image for seed in range(_IMAGES)]
    return "rendered surfaces", [_jpeg(Image.fromarray(surface)) for surface in surfaces]


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.resize((640, 480)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def make_detector(size: int, images: Sequence[bytes], source: str, *, seed: int = 0) -> ModelBundle:
    """Return the bundle for one input size, cached below VISIONOPS_HOME.

    Args:
        images: Images to fit the model and its threshold to.
        source: Source of the images, from `make_images`.
        seed: Seed of the weights; another seed gives other answers.
    """
    folder = visionops_home() / "benchmarks" / f"yolov8n-{size}-{seed}-{source.partition(' ')[0]}-v{_VERSION}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            made = _export(Path(scratch), size, images, seed)
            shutil.move(made, folder)
    return ModelBundle.load(folder)


def _export(scratch: Path, size: int, images: Sequence[bytes], seed: int) -> Path:
    os.environ.setdefault("YOLO_OFFLINE", "1")
    os.environ.setdefault("YOLO_AUTOINSTALL", "0")
    import torch
    from ultralytics import YOLO
    from ultralytics.utils import LOGGER

    from tests.helpers.detectors import CLASSES, tamed_detector

    LOGGER.setLevel(logging.ERROR)
    spec = PreprocessingSpec(width=size, height=size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's tracer prints many warnings
        model = tamed_detector("yolov8n", images, spec, seed=seed)
        torch.save({"model": model, "train_args": {"imgsz": size, "task": "detect"}}, scratch / "model.pt")
        YOLO(scratch / "model.pt").export(format="onnx", imgsz=size, opset=17, simplify=True)
    folder = scratch / "bundle"
    folder.mkdir()
    (scratch / "model.onnx").rename(folder / "model.onnx")
    card = BundleCard(
        task="detection",
        name="benchmark",
        architecture="yolov8n",
        class_names=CLASSES,
        preprocessing=spec,
        decode=Decode.YOLO,
    )
    confidence = choose_confidence(Predictor(ModelBundle.create(folder, card)), images)
    ModelBundle.create(folder, card.model_copy(update={"thresholds": Thresholds(confidence=confidence, iou=_IOU)}))
    return folder


def choose_confidence(predictor: Predictor, images: Sequence[bytes]) -> float:
    """Return the threshold that leaves 40 candidates per image on average.

    It is in a gap of all scores, so that float noise moves no box across it and answers of engines can be compared.
    """
    views = [view for image in images for view in predictor.infer(image)]
    scores = np.concatenate([view.outputs[0][0, 4:].max(axis=0) for view in views])
    scores = np.sort(scores)[::-1]
    first = _CANDIDATES * len(images)
    near = scores[first : first + 2 * len(images)]
    widest = int((near[:-1] - near[1:]).argmax())
    return float(near[widest : widest + 2].mean())


def is_same(found: Sequence[Mapping[str, Any]], expected: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether two answers have the same number of boxes, each matched within 1 pixel and 0.01 of score."""
    return len(found) == len(expected) and all(any(_is_near(a, b) for b in found) for a in expected)


def _is_near(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return (
        a["class_id"] == b["class_id"]
        and abs(a["confidence"] - b["confidence"]) <= 0.01
        and all(abs(x - y) <= 1 for x, y in zip(a["box"], b["box"], strict=True))
    )
