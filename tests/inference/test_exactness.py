"""The bundle answers like the trainer's own model, on real images, for every kind of head and both engines."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.helpers.detectors import CLASSES, tamed_detector
from visionops.inference.bundle import BundleCard, Decode, ModelBundle, Thresholds
from visionops.inference.predictor import Predictor
from visionops.inference.preprocessing_spec import PreprocessingSpec
from visionops.inference.settings import EngineName

pytestmark = pytest.mark.no_cover  # the tracer would follow each call inside torch's export

SPEC = PreprocessingSpec(width=256, height=256)
IOU = 0.7
BOXES = 40
"""Maximum number of boxes compared for each image, the best ones."""


@pytest.fixture(scope="module")
def images(real_data: Path) -> list[Path]:
    """Return 50 files: steel, plants in some 30 sizes, castings, palette PNGs of faces."""
    picked = sorted((real_data / "vision").rglob("*.jpg"))[::120][:14]
    picked += sorted((real_data / "plants").rglob("*.jpg"))[::16][:25]
    picked += sorted((real_data / "casting").rglob("*.jpeg"))[::40][:5]
    picked += sorted((real_data / "faces").rglob("*.png"))[::200][:6]
    assert len(picked) == 50
    return picked


@pytest.fixture(scope="module", params=["yolov8n", "yolo26n", "yolo26n-end2end"])
def trained(request, images, tmp_path_factory) -> tuple[ModelBundle, list[npt.NDArray[np.float32]]]:
    """Return a sealed bundle, and the torch model's boxes of every image: (N, 6) xyxy, score, class."""
    import torch
    from ultralytics import YOLO
    from ultralytics.utils import LOGGER

    LOGGER.setLevel(logging.ERROR)
    name, _, end2end = request.param.partition("-")
    folder = tmp_path_factory.mktemp(request.param)
    model = tamed_detector(name, [p.read_bytes() for p in images], SPEC, end2end=bool(end2end))
    torch.save({"model": model, "train_args": {"imgsz": SPEC.width, "task": "detect"}}, folder / "model.pt")
    nms = False if end2end else None  # the trainer's setting for keeping the end-to-end head
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's tracer warns a lot
        YOLO(folder / "model.pt").export(format="onnx", imgsz=SPEC.width, opset=17, simplify=False, nms=nms)
    (folder / "bundle").mkdir()
    (folder / "model.onnx").rename(folder / "bundle" / "model.onnx")
    card = BundleCard(
        task="detection",
        name="tamed",
        architecture=name,
        class_names=CLASSES,
        preprocessing=SPEC,
        decode=Decode.YOLO_END2END if end2end else Decode.YOLO,
    )
    bundle = ModelBundle.create(folder / "bundle", card)
    torch_model = YOLO(folder / "model.pt")
    answers = [
        torch_model.predict(p, rect=False, imgsz=SPEC.width, conf=0.01, iou=IOU, nms=nms, device="cpu")[0]
        for p in images
    ]
    return bundle, [answer.boxes.data.numpy() for answer in answers]


@pytest.mark.real_data
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("engine", list(EngineName))
def test_predictions_equal_the_torch_models_on_50_real_images(trained, images, engine):
    bundle, answers = trained
    predictor = Predictor(bundle, engine, thresholds=Thresholds(confidence=0.001, iou=IOU))
    compared = flipped = 0
    for path, answer in zip(images, answers, strict=True):
        best, confidence = _cut_at_gap(answer)
        prediction = predictor.predict(path.read_bytes(), {"confidence": confidence})
        unmatched = _unmatched(best, prediction)
        compared += len(best)
        flipped += unmatched + abs(len(best) - len(prediction.boxes))
    assert compared > 1000
    # The overlap of two candidates equals the threshold to five digits, so float noise decides which is kept.
    assert flipped <= compared // 1000


def _cut_at_gap(answer) -> tuple[npt.NDArray[np.float32], float]:
    """Return the best boxes, and a confidence in the middle of the widest gap after them, far from any score."""
    scores = answer[: BOXES + 1, 4]
    assert len(scores) > BOXES // 2
    first = BOXES // 2
    gaps = scores[first:-1] - scores[first + 1 :]
    cut = first + int(gaps.argmax()) + 1
    return answer[:cut], float(scores[cut - 1 : cut + 1].mean())


def _unmatched(answer, prediction) -> int:
    """Return boxes of the torch model without a match: same class, within 1 px, score within 0.01."""
    missing = 0
    for row in answer:
        near = np.abs(prediction.boxes - row[:4]).max(axis=1, initial=0) <= 1
        near &= np.abs(prediction.scores - row[4]) <= 0.01
        near &= prediction.class_ids == int(row[5])
        missing += not near.any()
    return missing
