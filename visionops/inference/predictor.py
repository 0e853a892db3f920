"""`Predictor`: encoded bytes or pixels in, detections in pixels of the original image out.

    bytes -> decode -> preprocess -> engine -> decode by the card -> NMS -> way back to the original image

The same object answers in evaluation, serving and batch.

>>> predictor = Predictor(ModelBundle.load(folder))
>>> predictor.predict(Path("part.jpg").read_bytes()).to_dicts()
[{'class_id': 2, 'class_name': 'scratches', 'confidence': 0.91, 'box': [12.0, 40.5, 180.2, 66.0]}]
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from visionops.config import Engine as EngineName
from visionops.errors import BundleError, ImageError
from visionops.inference.bundle import Decode, ModelBundle, Thresholds
from visionops.inference.engines import load_engine
from visionops.inference.image import DEFAULT_MAX_PIXELS, ImageProblem, decode_image
from visionops.inference.nms import suppress
from visionops.inference.prediction import Prediction
from visionops.inference.preprocessing import Geometry, preprocess

__all__ = ["Detections", "Image", "Predictor", "RawOutput"]

Image = bytes | npt.NDArray[np.uint8]
"""An encoded file, or uint8 (H, W, 3) RGB."""

Detections = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.int32]]
"""xyxy (N, 4), scores (N,), class ids (N,)."""


@dataclasses.dataclass(frozen=True, slots=True)
class RawOutput:
    """What the graph said of one image, in input pixels."""

    output: npt.NDArray[np.float32]
    """float32, as `Decode` says."""
    geometry: Geometry


class Predictor:
    """A bundle, loaded and ready. Safe to call from several threads at once.

    Args:
        bundle: Checked by `ModelBundle.load`.
        engine: What runs the graph; the precision is the bundle's.
        thresholds: Instead of the bundle's own.
        threads: Most threads for one inference; all that this process may use when absent.
        max_pixels: Larger images are refused before they are decoded.

    Raises:
        BundleError: The graph cannot be loaded, or its outputs contradict the card.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        engine: EngineName = EngineName.OPENVINO,
        *,
        thresholds: Thresholds | None = None,
        threads: int | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> None:
        self.bundle = bundle
        self.engine = load_engine(bundle, engine, threads=threads)
        self.thresholds = thresholds or bundle.card.thresholds
        self.max_pixels = max_pixels
        self._check_outputs()

    def predict(
        self,
        image: Image,
        *,
        confidence: float | None = None,
        iou: float | None = None,
        multi_label: bool = False,
        timing: dict[str, float] | None = None,
        where: str = "image",
    ) -> Prediction:
        """Detect in one image.

        Args:
            image: An encoded file, or uint8 (H, W, 3) RGB.
            confidence: Detections at or below this score are dropped; the thresholds' own when absent.
            iou: Overlap above which the weaker of two boxes of a class goes; the thresholds' own when absent.
            multi_label: A candidate counts for every class that passes, as the trainer's validation has it, not only
                for its best one.
            timing: Receives milliseconds under ``decode``, ``preprocess``, ``inference``, ``postprocess``.
            where: Named in errors: a file name, "upload".

        Raises:
            ImageError: The bytes or the array cannot be used.
        """
        raw = self.infer(image, timing=timing, where=where)
        start = time.perf_counter()
        prediction = self.decode(raw, confidence=confidence, iou=iou, multi_label=multi_label)
        if timing is not None:
            timing["postprocess"] = (time.perf_counter() - start) * 1000
        return prediction

    def infer(self, image: Image, *, timing: dict[str, float] | None = None, where: str = "image") -> RawOutput:
        """The first half of `predict`, for who decodes one output in several ways.

        Raises:
            ImageError: The bytes or the array cannot be used.
        """
        clock = [time.perf_counter()]
        rgb = self._pixels(image, where)
        clock.append(time.perf_counter())
        tensor, geometry = preprocess(rgb, self.bundle.card.preprocessing)
        clock.append(time.perf_counter())
        output = self.engine.infer(tensor)[0]
        clock.append(time.perf_counter())
        if timing is not None:
            spans = (np.diff(clock) * 1000).tolist()
            timing.update(zip(("decode", "preprocess", "inference"), spans, strict=True))
        return RawOutput(output, geometry)

    def decode(
        self, raw: RawOutput, *, confidence: float | None = None, iou: float | None = None, multi_label: bool = False
    ) -> Prediction:
        """The second half of `predict`."""
        limits = Thresholds(
            confidence=self.thresholds.confidence if confidence is None else confidence,
            iou=self.thresholds.iou if iou is None else iou,
            max_detections=self.thresholds.max_detections,
        )
        card, geometry = self.bundle.card, raw.geometry
        xyxy, scores, class_ids = _decode(raw.output, card.decode, limits, multi_label=multi_label)
        boxes = geometry.to_original(xyxy)
        return Prediction(geometry.width, geometry.height, boxes, scores, class_ids, card.class_names)

    def predict_many(
        self, images: Iterable[Image], *, confidence: float | None = None, iou: float | None = None
    ) -> list[Prediction]:
        """Detect in several images, in their order.

        Raises:
            ImageError: Naming the index of the first image that cannot be used.
        """
        return [
            self.predict(image, confidence=confidence, iou=iou, where=f"image {index}")
            for index, image in enumerate(images)
        ]

    def warm_up(self) -> None:
        """Answer once, so that the first real request does not pay for lazy set-up."""
        spec = self.bundle.card.preprocessing
        self.predict(np.full((spec.height, spec.width, 3), spec.pad_value, dtype=np.uint8))

    def _pixels(self, image: Image, where: str) -> npt.NDArray[np.uint8]:
        if isinstance(image, bytes | bytearray | memoryview):
            return decode_image(bytes(image), where=where, max_pixels=self.max_pixels)
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            shape = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise ImageError(
                f"{where}: is {shape}; give an encoded file as bytes, or an array of uint8 (H, W, 3), RGB",
                ImageProblem.UNSUPPORTED,
            )
        if image.size == 0:
            raise ImageError(f"{where}: has no pixels; replace or remove it", ImageProblem.EMPTY)
        if image.shape[0] * image.shape[1] > self.max_pixels:
            raise ImageError(
                f"{where}: {image.shape[1]} x {image.shape[0]} pixels, over the limit of {self.max_pixels}",
                ImageProblem.TOO_LARGE,
            )
        return image

    def _check_outputs(self) -> None:
        """Run once: only then is the shape of the outputs certain."""
        card = self.bundle.card
        shape = (1, 3, card.preprocessing.height, card.preprocessing.width)
        output = self.engine.infer(np.zeros(shape, dtype=np.float32))[0].shape
        rows = 4 + len(card.class_names)
        end2end = card.decode is Decode.YOLO_END2END
        fits = len(output) == 3 and output[0] == 1 and (output[2] == 6 if end2end else output[1] == rows)
        if not fits:
            wanted = "(1, N, 6)" if end2end else f"(1, {rows}, N)"
            raise BundleError(
                f"{self.bundle.model_path}: gives {output}, the card ({len(card.class_names)} classes, "
                f"{card.decode.value}) says {wanted}; export it again"
            )


def _decode(raw: npt.NDArray[np.float32], decode: Decode, limits: Thresholds, *, multi_label: bool) -> Detections:
    """Detections in input pixels, best first, out of the graph's first output."""
    if decode is Decode.YOLO_END2END:
        return _decode_end2end(raw[0], limits)
    return _decode_yolo(raw[0], limits, multi_label=multi_label)


def _decode_end2end(rows: npt.NDArray[np.float32], limits: Thresholds) -> Detections:
    rows = rows[rows[:, 4] > limits.confidence]
    rows = rows[np.argsort(-rows[:, 4], kind="stable")][: limits.max_detections]
    return rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int32)


def _decode_yolo(columns: npt.NDArray[np.float32], limits: Thresholds, *, multi_label: bool) -> Detections:
    candidates = np.flatnonzero(columns[4:].max(axis=0) > limits.confidence)
    scores = columns[4:, candidates]
    if multi_label:
        anchor, class_ids = np.nonzero(limits.confidence < scores.T)
    else:
        anchor, class_ids = np.arange(len(candidates)), scores.argmax(axis=0)
    best = scores[class_ids, anchor]
    centre, size = columns[:2, candidates[anchor]].T, columns[2:4, candidates[anchor]].T
    half = size / np.float32(2)
    xyxy: npt.NDArray[np.float32] = np.hstack([centre - half, centre + half], dtype=np.float32)
    labels = class_ids.astype(np.int32)
    stay = suppress(xyxy, best, labels, limits.iou, limits.max_detections)
    return xyxy[stay], best[stay], labels[stay]
