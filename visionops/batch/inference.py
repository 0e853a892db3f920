"""Predict many images with one predictor: several at once, each image only once."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic_core import to_json

from visionops.batch.answers import ANSWERS, Answer, BatchAnswers
from visionops.batch.report import BatchSummary
from visionops.batch.segments import read_segments, write_segment
from visionops.batch.tables import write_tables
from visionops.data.dataset import Dataset, Split
from visionops.data.files import describe_os_error
from visionops.data.output import Output
from visionops.errors import ImageError
from visionops.inference.bundle import ModelBundle
from visionops.inference.engines import available_cpus
from visionops.inference.prediction import Prediction
from visionops.inference.predictor import Load, Predictor
from visionops.inference.settings import ServingConfig
from visionops.monitoring.batches import BatchRecorder
from visionops.monitoring.log import PredictionLog

__all__ = ["ask_images", "batch_predictor", "predict_batch"]

_SEGMENT = 64
"""Number of images between two writes, which a killed run has to repeat at most."""
_VERSION = 2
"""Version of the stored answers. Answers of another version are computed again."""


def batch_predictor(bundle: ModelBundle, serving: ServingConfig) -> Predictor:
    """Return a server predictor with one thread for each image, because a batch has an image for every core."""
    update = {"confidence": serving.confidence, "iou": serving.iou}
    thresholds = bundle.card.thresholds.model_copy(update=update)
    busy = Load(images=1)  # the last image of a batch is computed in the same way as the first
    return Predictor(bundle, serving.engine, thresholds=thresholds, streams=available_cpus(), load=busy)


def predict_batch(
    predictor: Predictor,
    dataset: Dataset,
    output: Output,
    version: str,
    progress: Callable[[int, str], None] = lambda _done, _note: None,
    log: PredictionLog | None = None,
) -> BatchSummary:
    """Run `ask_images`, then `write_tables`.

    Raises:
        DataError: See both functions.
    """
    answers = ask_images(predictor, dataset, output, version, progress, log)
    return write_tables([answers], predictor.bundle.card, version, output)


def ask_images(
    predictor: Predictor,
    dataset: Dataset,
    output: Output,
    version: str,
    progress: Callable[[int, str], None] = lambda _done, _note: None,
    log: PredictionLog | None = None,
) -> BatchAnswers:
    """Predict the unlabelled images of ``dataset``, and store the answers below ``output`` while they are computed.

    A bad image becomes a row with an error. Answers of the same model for the same image bytes in ``output`` are
    reused, so a killed run resumes. Several processes may write to one output at once, each for images of its own.

    Args:
        version: Version of the model, for the log.
        progress: Called from this thread with the number of images done and a note.
        log: Gets a record of each image that this run predicts.

    Raises:
        DataError: ``output`` cannot be read or written.
    """
    start = time.perf_counter()
    images = dataset.select_split(Split.UNLABELLED)
    run = _identity(predictor)
    segments = f"segments/{run}"
    known, is_resumed = read_segments(output, segments, images)
    place = f"{output.place}/{segments}"
    recorder = BatchRecorder(log, place, predictor.bundle, version, is_resumed=is_resumed) if log else None
    answers: list[Answer | None] = [known.get(sha256) for sha256 in images.column("sha256")]
    todo = [row for row, answer in enumerate(answers) if answer is None]
    progress(images.num_images - len(todo), "")

    def ask(path: Path, key: str) -> tuple[Answer, bool]:
        return _ask(predictor, recorder, known, path, key)

    def keep(segment: Sequence[Answer]) -> None:
        write_segment(output, segments, segment)

    predicted = _predict(images, todo, answers, ask, keep, progress)
    rows = pa.Table.from_pylist([answer._asdict() for answer in answers if answer is not None], schema=ANSWERS)
    keys = pa.array(images.column("key"), pa.string())
    return BatchAnswers(run, predicted, time.perf_counter() - start, rows.add_column(0, "key", keys))


def _identity(predictor: Predictor) -> str:
    """Return a digest that is equal for two runs with the same answers."""
    identity = f"{_VERSION} {predictor.bundle.digest} {predictor.engine.name} {predictor.thresholds.model_dump_json()}"
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _predict(
    images: Dataset,
    todo: Sequence[int],
    answers: list[Answer | None],
    ask: Callable[[Path, str], tuple[Answer, bool]],
    keep: Callable[[Sequence[Answer]], None],
    progress: Callable[[int, str], None],
) -> int:
    """Fill ``answers`` at the rows ``todo``; return the number of images sent to the model."""
    keys, paths = images.column("key"), images.paths()
    done, failed, predicted = images.num_images - len(todo), 0, 0
    segment: list[Answer] = []
    # Twice as many as there are streams, so that the next images are decoded while these are computed.
    with ThreadPoolExecutor(2 * available_cpus()) as pool:
        # Stay one window ahead of the writes: no core idles at the end of a segment, and memory stays bounded.
        ahead: deque[tuple[int, Future[tuple[Answer, bool]]]] = deque()
        try:
            for row in itertools.chain(todo, itertools.repeat(None, _SEGMENT)):
                if row is not None:
                    ahead.append((row, pool.submit(ask, paths[row], keys[row])))
                if not ahead or (row is not None and len(ahead) < _SEGMENT):
                    continue
                first, future = ahead.popleft()
                answer, is_new = future.result()
                answers[first] = answer
                done, failed, predicted = done + 1, failed + bool(answer.error), predicted + is_new
                progress(done, f"{failed} failed" if failed else "")
                if answer.sha256 and is_new:
                    segment.append(answer)
                if len(segment) == _SEGMENT:
                    keep(segment)
                    segment.clear()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if segment:
        keep(segment)
    return predicted


def _ask(
    predictor: Predictor, recorder: BatchRecorder | None, known: Mapping[str, Answer], path: Path, key: str
) -> tuple[Answer, bool]:
    """Return the answer, and whether it is new."""
    try:
        data = path.read_bytes() if path != Path() else b""
    except OSError as error:  # without the bytes there is no digest to store it under: the next run tries again
        return Answer("", None, None, f"cannot be read ({describe_os_error(error)})", ""), True
    if path == Path():
        return Answer("", None, None, "the file is missing", ""), True
    sha256 = hashlib.sha256(data).hexdigest()
    if answer := known.get(sha256):
        return answer, False
    seen: list[tuple[npt.NDArray[np.uint8], Prediction]] = []
    start = time.perf_counter()
    try:
        prediction = predictor.predict(data, where=key, watch=lambda *found: seen.append(found))
    except ImageError as error:
        return Answer(sha256, None, None, str(error).removeprefix(f"{key}: "), ""), True
    if problem := prediction.problem():
        return Answer(sha256, prediction.width, prediction.height, problem, ""), True
    rgb, recorded = seen[0]
    if recorder and not recorded.problem():  # at the card's thresholds there may be boxes that the answer leaves out
        recorder.record(path, key, sha256, rgb, recorded, (time.perf_counter() - start) * 1000)
    return Answer(sha256, prediction.width, prediction.height, "", to_json(prediction.to_dict()).decode()), True
