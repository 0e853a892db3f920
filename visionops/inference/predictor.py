"""`Predictor`: from encoded bytes or pixels to the task's answer.

    bytes -> decode -> preprocess -> engine -> decode by the card -> `Prediction`

Where the card has tiles, the two steps in the middle run for each tile of a large image, one after the other. The same
class is used in evaluation, serving and batch inference, for every task.

>>> predictor = Predictor(ModelBundle.load(folder))
>>> predictor.predict(Path("part.jpg").read_bytes()).to_dict()
{'detections': [{'class_id': 2, 'class_name': 'scratches', 'confidence': 0.91, 'box': [12.0, 40.5, 180.2, 66.0]}]}
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from visionops.errors import BundleError, ImageError
from visionops.inference.autotune import StreamTuner
from visionops.inference.bundle import ModelBundle, Thresholds
from visionops.inference.decoders import RawOutput, decoder_for
from visionops.inference.engines import load_engine
from visionops.inference.image import ImageProblem, decode_image
from visionops.inference.prediction import Prediction
from visionops.inference.preprocessing import preprocess
from visionops.inference.settings import DEFAULT_MAX_PIXELS, Device, EngineName
from visionops.inference.task_registry import served_task
from visionops.inference.tiling import tile_windows

__all__ = ["Image", "Load", "Predictor", "Watch"]

Image = bytes | npt.NDArray[np.uint8]
"""An encoded file, or uint8 (H, W, 3) RGB."""
Watch = Callable[[npt.NDArray[np.uint8], Prediction], None]
"""Function that gets the decoded pixels, uint8 (H, W, 3) RGB, and the prediction at the card's own thresholds."""


class Load:
    """Count the images in work, shared by all predictors that compete for the same cores.

    Args:
        images: Initial number of images in work. From 1 on, no image is ever alone, and all are computed alike.
        cores: Number of images that can be in work before one must wait.
        waiting: Function that returns how many images wait for a thread; called under a lock, must not block.
        clock: Function that returns the time in seconds.
    """

    def __init__(
        self,
        images: int = 0,
        *,
        cores: int = 1,
        waiting: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lock = threading.Lock()
        self._images, self._cores, self._clock = images, cores, clock
        self.waiting = waiting
        self._slack, self._since, self._is_slack = 0.0, clock(), True

    @property
    def images(self) -> int:
        """Return the number of images in work."""
        return self._images

    @property
    def alone(self) -> bool:
        """Return whether at most one image is in work."""
        return self._images <= 1

    def slack(self) -> float:
        """Return the total seconds in which no image had to wait for a core."""
        with self._lock:
            self._note()
            return self._slack

    def __enter__(self) -> None:
        with self._lock:
            self._images += 1
            self._note()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._images -= 1
            self._note()

    def _note(self) -> None:
        now = self._clock()
        if self._is_slack:
            self._slack += now - self._since
        self._since, self._is_slack = now, self._images + self.waiting() <= self._cores


class Predictor:
    """A loaded bundle, ready to predict. Safe to use from several threads at once.

    Args:
        bundle: Bundle from `ModelBundle.load`.
        engine: Engine that runs the graph; the precision is the bundle's.
        device: Device that computes.
        thresholds: Thresholds of boxes, instead of the bundle's own.
        threads: Maximum number of threads at once; all that this process may use when None.
        streams: Number of images computed at once for several callers; 1 gives each all threads. Only this number is
            compiled. An image that is alone gets all threads where `Engine.add` has compiled 1, too.
        tuner: Tuner that chooses the streams of each image that is not alone, instead of ``streams``.
        load: Load shared by several predictors; its own when None.
        cache: Folder for OpenVINO's compiled models.
        max_pixels: Maximum number of pixels; a larger image is refused before decoding.

    Raises:
        BundleError: The graph cannot be loaded, or its outputs contradict the card.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        engine: EngineName = EngineName.OPENVINO,
        *,
        device: Device = Device.CPU,
        thresholds: Thresholds | None = None,
        threads: int | None = None,
        streams: int = 1,
        tuner: StreamTuner | None = None,
        load: Load | None = None,
        cache: Path | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> None:
        self.bundle = bundle
        self.engine = load_engine(bundle, engine, device=device, threads=threads, streams=streams, cache=cache)
        self.tuner = tuner
        self._streams = self.engine.streams[0]
        self._load = load or Load()
        self.thresholds = thresholds or bundle.card.thresholds
        self.decoder = decoder_for(bundle.card, self.thresholds)
        self._card_decoder = decoder_for(bundle.card, bundle.card.thresholds)
        self.max_pixels = max_pixels
        self._check_outputs()

    def predict(
        self,
        image: Image,
        options: Mapping[str, float] | None = None,
        *,
        timing: dict[str, float] | None = None,
        where: str = "image",
        watch: Watch | None = None,
    ) -> Prediction:
        """Return the prediction for one image.

        Args:
            image: An encoded file, or uint8 (H, W, 3) RGB.
            options: Options of this request. A detector takes ``confidence`` (boxes at or below this score are dropped)
                and ``iou`` (overlap above which the weaker of two boxes of a class is dropped).
            timing: Receives milliseconds under ``decode``, ``preprocess``, ``inference``, ``postprocess``.
            where: Source of the image for errors: a file name or "upload".
            watch: Called with the decoded pixels, uint8 (H, W, 3), and with the prediction to record, which is at the
                card's own thresholds. It is the answer itself where that has the same thresholds.

        Raises:
            ImageError: The bytes or the array cannot be used.
            OptionError: The task does not have the option.
        """
        rgb, views = self._infer(image, timing, where)
        start = time.perf_counter()
        prediction = self.decoder.decode(views, options or {})
        if timing is not None:
            timing["postprocess"] = (time.perf_counter() - start) * 1000
        if watch is not None:
            is_by_card = self._is_by_card(options or {})
            watch(rgb, prediction if is_by_card else self._card_decoder.decode(views, {}))
        return prediction

    def infer(
        self,
        image: Image,
        *,
        timing: dict[str, float] | None = None,
        where: str = "image",
    ) -> tuple[RawOutput, ...]:
        """Run the first half of `predict`, for callers that decode one output in several ways.

        Returns:
            One output, or one for each tile where the card has tiles and the image is larger than one.

        Raises:
            ImageError: The bytes or the array cannot be used, or the image takes too many tiles.
        """
        return self._infer(image, timing, where)[1]

    def _infer(
        self, image: Image, timing: dict[str, float] | None, where: str
    ) -> tuple[npt.NDArray[np.uint8], tuple[RawOutput, ...]]:
        spec, views = self.bundle.card.preprocessing, []
        with self._load:
            clock = [time.perf_counter()]
            rgb = self.pixels(image, where)
            clock.append(time.perf_counter())
            for window in tile_windows(rgb.shape[1], rgb.shape[0], spec.tiles, where=where):
                tensor, geometry = preprocess(rgb, spec, window)
                clock.append(time.perf_counter())
                outputs = self._compute(tensor)
                clock.append(time.perf_counter())
                views.append(RawOutput(outputs, geometry))
        if timing is not None:
            spans = np.diff(clock) * 1000
            sums = (spans[0], spans[1::2].sum(), spans[2::2].sum())
            timing.update(zip(("decode", "preprocess", "inference"), map(float, sums), strict=True))
        return rgb, tuple(views)

    def _compute(self, tensor: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        if self._load.alone:
            return self.engine.infer(tensor)
        if self.tuner is None:
            return self.engine.infer(tensor, streams=self._streams)
        turn, is_done = self.tuner.begin(), False
        try:
            outputs = self.engine.infer(tensor, streams=turn.streams)
            is_done = True
        finally:
            self.tuner.end(turn, counts=is_done)
        return outputs

    def _is_by_card(self, options: Mapping[str, float]) -> bool:
        """Return whether an answer under these options equals that at the card's thresholds."""
        card = self.bundle.card
        return served_task(card.task).answers_by_card(card, self.thresholds, options)

    def predict_many(self, images: Iterable[Image], options: Mapping[str, float] | None = None) -> list[Prediction]:
        """Return the predictions for several images, in order.

        Raises:
            ImageError: Naming the index of the first image that cannot be used.
        """
        return [self.predict(image, options, where=f"image {index}") for index, image in enumerate(images)]

    def warm_up(self) -> None:
        """Predict once, so that the first real request does not pay for lazy initialization."""
        spec = self.bundle.card.preprocessing
        height, width = (spec.tiles.size,) * 2 if spec.tiles else (spec.height, spec.width)
        self.predict(np.full((height, width, 3), spec.pad_value, dtype=np.uint8))

    def prove(self, image: Image, where: str) -> None:
        """Predict one image and check the numbers: the smoke test before a model gets traffic.

        Raises:
            BundleError: The answer is invalid, such as a NaN score.
            ImageError: The image cannot be used.
        """
        # A detector that finds nothing above its threshold proves little, so use all options that keep boxes.
        if problem := self.predict(image, self.decoder.everything, where=where).problem():
            raise BundleError(f"{where}: {problem}; train or export again")

    def pixels(self, image: Image, where: str = "image") -> npt.NDArray[np.uint8]:
        """Decode a file, or check an array: uint8 (H, W, 3), RGB, upright.

        Raises:
            ImageError: The bytes or the array cannot be used.
        """
        if isinstance(image, bytes | bytearray | memoryview):
            white = self.bundle.card.preprocessing.white
            return decode_image(bytes(image), where=where, max_pixels=self.max_pixels, white=white)
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            shape = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise ImageError(
                f"{where}: expected an encoded file as bytes, or a uint8 array (H, W, 3), RGB; got {shape}",
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
        """Run once, because only then the shape of the outputs is certain."""
        card = self.bundle.card
        shape = (1, 3, card.preprocessing.height, card.preprocessing.width)
        outputs = self.engine.infer(np.zeros(shape, dtype=np.float32), streams=self._streams)
        if wanted := self.decoder.contradiction(outputs):
            raise BundleError(
                f"{self.bundle.model_path}: outputs {outputs[0].shape}, but the card ({len(card.class_names)} classes, "
                f"{card.decode}) expects {wanted}; export it again"
            )
