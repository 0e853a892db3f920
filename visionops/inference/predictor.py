"""`Predictor`: encoded bytes or pixels in, the task's answer out.

    bytes -> decode -> preprocess -> engine -> decode by the card -> `Prediction`

Where the card has tiles, the two steps in the middle are done for each tile of a large image, one after the other. The
same object answers in evaluation, serving and batch, for every task.

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
"""Gets the decoded pixels, uint8 (H, W, 3) RGB, and the prediction at the card's own thresholds."""


class Load:
    """How many images are in work: shared by all predictors that compete for the same cores.

    Args:
        images: Already in work. 1 or more: no image is ever alone, and all are computed in the same way.
        cores: Images that can be in work before one must wait.
        waiting: Returns how many images wait for a thread; called under a lock, must not wait.
        clock: Seconds.
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
        """Images in work."""
        return self._images

    @property
    def alone(self) -> bool:
        """At most one image is in work."""
        return self._images <= 1

    def slack(self) -> float:
        """Return the seconds so far in which no image had to wait for a core."""
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
    """A bundle, loaded and ready. Safe to call from several threads at once.

    Args:
        bundle: Checked by `ModelBundle.load`.
        engine: What runs the graph; the precision is the bundle's.
        device: What it computes on.
        thresholds: Of boxes, instead of the bundle's own.
        threads: Most threads in work at once; all that this process may use when absent.
        streams: Images computed side by side when several callers are here; 1: each with all threads. Only this
            number is compiled; an image that is alone gets all threads where `Engine.add` has compiled 1, too.
        tuner: Chooses the streams of each image that is not alone, instead.
        load: Of the callers of several predictors together; its own when absent.
        cache: Folder where OpenVINO keeps what it compiled.
        max_pixels: Larger images are refused before they are decoded.

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
        """Answer for one image.

        Args:
            image: An encoded file, or uint8 (H, W, 3) RGB.
            options: What this request alone wants otherwise. A detector takes ``confidence`` (boxes at or below this
                score are dropped) and ``iou`` (overlap above which the weaker of two boxes of a class goes).
            timing: Receives milliseconds under ``decode``, ``preprocess``, ``inference``, ``postprocess``.
            where: Named in errors: a file name, "upload".
            watch: Called with the decoded pixels, uint8 (H, W, 3), and with what is to be recorded: the prediction at
                the card's own thresholds. It is the answer itself where that was made at the same thresholds.

        Raises:
            ImageError: The bytes or the array cannot be used.
            OptionError: The task knows no such option.
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
        """The first half of `predict`, for who decodes one output in several ways.

        Returns:
            One output; or, where the card has tiles and the image is larger than one, an output a tile.

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
        """Whether an answer under these options is what the card's thresholds give."""
        card = self.bundle.card
        return served_task(card.task).answers_by_card(card, self.thresholds, options)

    def predict_many(self, images: Iterable[Image], options: Mapping[str, float] | None = None) -> list[Prediction]:
        """Answer for several images, in their order.

        Raises:
            ImageError: Naming the index of the first image that cannot be used.
        """
        return [self.predict(image, options, where=f"image {index}") for index, image in enumerate(images)]

    def warm_up(self) -> None:
        """Answer once, so that the first real request does not pay for lazy set-up."""
        spec = self.bundle.card.preprocessing
        height, width = (spec.tiles.size,) * 2 if spec.tiles else (spec.height, spec.width)
        self.predict(np.full((height, width, 3), spec.pad_value, dtype=np.uint8))

    def prove(self, image: Image, where: str) -> None:
        """Answer for one image and look at the numbers: the smoke test before a model gets traffic.

        Raises:
            BundleError: The answer is none, as NaN for a score.
            ImageError: The image cannot be used.
        """
        # A detector that finds nothing above its threshold proves little.
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
        outputs = self.engine.infer(np.zeros(shape, dtype=np.float32), streams=self._streams)
        if wanted := self.decoder.contradiction(outputs):
            raise BundleError(
                f"{self.bundle.model_path}: gives {outputs[0].shape}, the card ({len(card.class_names)} classes, "
                f"{card.decode}) says {wanted}; export it again"
            )
