"""Many images at once, answered by a bundle exactly as its server would answer, into tables.

    output/
    ├── predictions.parquet, predictions.csv   a row an image
    ├── detections.parquet, detections.csv     a row a box (of a detector)
    ├── summary.json                           `BatchSummary`
    └── segments/<model>/*.parquet             answers by SHA-256: what a second run does not ask again

Columns of predictions: ``key`` (path below the folder), ``sha256``, ``width``, ``height``, ``model``, ``version``,
``error`` ("" when answered); of a detector ``detections`` (their number); of labels, for each attribute A with a class
C: ``A`` (the class answered), ``A_confidence`` and ``A_p_C`` (a probability for each class). Of detections: ``key``,
``sha256``, ``model``, ``version``, ``class_id``, ``class_name``, ``confidence``, ``x1``, ``y1``, ``x2``, ``y2`` (pixels
of the original image after EXIF rotation), best first within an image.
"""

from __future__ import annotations

import hashlib
import itertools
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict
from pydantic_core import from_json, to_json

from visionops.config import Config
from visionops.data.dataset import Dataset, Split
from visionops.data.files import describe_os_error, walk_files
from visionops.errors import DataError, ImageError
from visionops.inference.bundle import BundleCard, ModelBundle, Thresholds
from visionops.inference.engines import available_cpus
from visionops.inference.predictor import Load, Predictor
from visionops.monitoring.batches import BatchRecorder
from visionops.monitoring.log import PredictionLog

__all__ = ["BatchSummary", "LotSummary", "batch_predictor", "list_images", "predict_batch", "render_batch_html"]

_SEGMENT = 64
"""Images between two writes: what a killed run has to do again at most."""
_ANSWERS = pa.schema(
    [
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("error", pa.string()),
        ("answer", pa.string()),  # JSON of `Prediction.to_dict`; "" with an error
    ]
)


class _Answer(NamedTuple):
    """A row of a segment."""

    sha256: str
    width: int | None
    height: int | None
    error: str
    answer: str


class LotSummary(BaseModel):
    """One folder of images."""

    model_config = ConfigDict(frozen=True)

    images: int
    failed: int
    """Images without an answer."""
    shares: dict[str, float]
    """Class (of attributes ``attribute=class``) to the share of answered images that are, or show, it."""
    confidence: float | None
    """Mean over all answers; None without any."""


class BatchSummary(BaseModel):
    """What a batch came to."""

    model_config = ConfigDict(frozen=True)

    model: str
    version: str
    images: int
    predicted: int
    """Asked of the model now; the others were answered by an earlier run."""
    failed: int
    seconds: float
    lots: dict[str, LotSummary]
    """First folder of the key ("." for none) to its images."""
    files: tuple[str, ...]
    """Absolute paths of the tables."""


def list_images(folder: Path, name: str) -> Dataset:
    """The images below a folder, for a batch: not looked into, without labels.

    Raises:
        DataError: No such folder, or no image in it.
    """
    folder = folder.absolute()
    if not folder.is_dir():
        raise DataError(f"--input {folder}: no such folder")
    keys = sorted(file.name for file in walk_files(folder) if file.is_image)
    if not keys:
        raise DataError(f"--input {folder}: holds no images")
    paths = [str(folder / key) for key in keys]
    return Dataset.from_columns(
        name, (), {"key": keys, "path": paths, "split": [Split.UNLABELLED.value] * len(keys)}, {}
    )


def batch_predictor(bundle: ModelBundle, config: Config) -> Predictor:
    """The predictor of the server, with one thread an image: a batch has an image for every core."""
    thresholds = Thresholds(confidence=config.serving.confidence, iou=config.serving.iou)
    busy = Load(images=1)  # the last image of a batch is computed as the first was
    return Predictor(bundle, config.serving.engine, thresholds=thresholds, streams=available_cpus(), load=busy)


def predict_batch(
    predictor: Predictor,
    dataset: Dataset,
    output: Path,
    version: str,
    progress: Callable[[int, str], None] = lambda _done, _note: None,
    log: PredictionLog | None = None,
) -> BatchSummary:
    """Answer for the unlabelled images of ``dataset`` and write the tables.

    A bad image is a row with an error. What the same model has answered into ``output`` before, by the bytes of the
    image, is not asked again; a killed run goes on.

    Args:
        version: Of the model, for the tables.
        progress: Called from this thread with the images done and a note.
        log: Gets a record of each image that is asked now.

    Raises:
        DataError: No image is unlabelled, or ``output`` cannot be written.
    """
    start = time.perf_counter()
    images = dataset.select_split(Split.UNLABELLED)
    if not images.num_images:
        raise DataError(f"{dataset.name}: its data has no unlabelled images; name a folder with --input")
    card = predictor.bundle.card
    try:
        segments = output.absolute() / "segments" / _identity(predictor)
        is_resumed = segments.exists()
        segments.mkdir(parents=True, exist_ok=True)
        recorder = BatchRecorder(log, segments, predictor.bundle, version, is_resumed=is_resumed) if log else None
        known = _read_segments(segments)
        answers: list[_Answer | None] = [known.get(sha256) for sha256 in images.column("sha256")]
        todo = [row for row, answer in enumerate(answers) if answer is None]
        progress(images.num_images - len(todo), "")
        _predict(predictor, recorder, images, todo, answers, segments, progress)
        rows = [answer for answer in answers if answer is not None]
        tables = _tables(images.column("key"), rows, card, version)
        summary = BatchSummary(
            model=card.name,
            version=version,
            images=len(rows),
            predicted=len(todo),
            failed=sum(bool(row.error) for row in rows),
            seconds=time.perf_counter() - start,
            lots=_lots(images.column("key"), rows),
            files=tuple(str(path) for name, table in tables.items() for path in _write(table, output.absolute(), name)),
        )
        _replace(output / "summary.json", summary.model_dump_json(indent=1).encode())
    except OSError as error:
        raise DataError(f"{output}: cannot be written ({describe_os_error(error)}); choose another --output") from error
    return summary


def _identity(predictor: Predictor) -> str:
    """What two runs share when their answers are the same."""
    told = f"{predictor.bundle.digest} {predictor.engine.name} {predictor.thresholds.model_dump_json()}"
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _read_segments(folder: Path) -> dict[str, _Answer]:
    known = {}
    for path in sorted(folder.glob("*.parquet")):
        try:
            rows = pq.read_table(path, schema=_ANSWERS).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path}: cannot be read ({error}); remove it, its images are asked again") from error
        known.update({row["sha256"]: _Answer(**row) for row in rows})
    return known


def _predict(
    predictor: Predictor,
    recorder: BatchRecorder | None,
    images: Dataset,
    todo: Sequence[int],
    answers: list[_Answer | None],
    segments: Path,
    progress: Callable[[int, str], None],
) -> None:
    """Fill ``answers`` at the rows ``todo``."""
    keys, paths = images.column("key"), images.paths()
    done, failed = images.num_images - len(todo), 0
    segment: list[_Answer] = []
    # Twice as many as there are streams: while they compute, the next images are decoded.
    with ThreadPoolExecutor(2 * available_cpus()) as pool:
        # A window ahead of what is written: no core waits at the end of a segment, and memory stays bounded.
        ahead: deque[tuple[int, Future[_Answer]]] = deque()
        try:
            for row in itertools.chain(todo, itertools.repeat(None, _SEGMENT)):
                if row is not None:
                    ahead.append((row, pool.submit(_ask, predictor, recorder, paths[row], keys[row])))
                if not ahead or (row is not None and len(ahead) < _SEGMENT):
                    continue
                first, future = ahead.popleft()
                answers[first] = answer = future.result()
                done, failed = done + 1, failed + bool(answer.error)
                progress(done, f"{failed} failed" if failed else "")
                if answer.sha256:
                    segment.append(answer)
                if len(segment) == _SEGMENT:
                    _write_segment(segment, segments)
                    segment.clear()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    _write_segment(segment, segments)


def _write_segment(segment: Sequence[_Answer], segments: Path) -> None:
    if segment:
        table = pa.Table.from_pylist([answer._asdict() for answer in segment], schema=_ANSWERS)
        _write_parquet(table, segments / f"{time.time_ns()}-{uuid.uuid4().hex[:8]}.parquet")


def _ask(predictor: Predictor, recorder: BatchRecorder | None, path: Path, key: str) -> _Answer:
    try:
        data = path.read_bytes() if path != Path() else b""
    except OSError as error:  # without the bytes there is no name to remember it by: the next run tries again
        return _Answer("", None, None, f"{key}: cannot be read ({describe_os_error(error)})", "")
    if path == Path():
        return _Answer("", None, None, f"{key}: the file is missing", "")
    sha256 = hashlib.sha256(data).hexdigest()
    seen: list[npt.NDArray[np.uint8]] = []
    start = time.perf_counter()
    try:
        prediction = predictor.predict(data, where=key, watch=seen.append)
    except ImageError as error:
        return _Answer(sha256, None, None, str(error), "")
    if problem := prediction.problem():
        return _Answer(sha256, prediction.width, prediction.height, f"{key}: {problem}", "")
    if recorder:
        recorder.record(path, key, sha256, seen[0], prediction, (time.perf_counter() - start) * 1000)
    return _Answer(sha256, prediction.width, prediction.height, "", to_json(prediction.to_dict()).decode())


def _tables(keys: Sequence[str], rows: Sequence[_Answer], card: BundleCard, version: str) -> dict[str, pa.Table]:
    """File name to its table."""
    n = len(rows)
    columns: dict[str, Any] = {
        "key": pa.array(keys, pa.string()),
        "sha256": pa.array([row.sha256 for row in rows], pa.string()),
        "width": pa.array([row.width for row in rows], pa.int32()),
        "height": pa.array([row.height for row in rows], pa.int32()),
        "model": pa.array([card.name] * n, pa.string()),
        "version": pa.array([version] * n, pa.string()),
        "error": pa.array([row.error for row in rows], pa.string()),
    }
    told = [from_json(row.answer) if row.answer else None for row in rows]
    if not card.heads:
        found = [None if answer is None else len(answer["detections"]) for answer in told]
        columns["detections"] = pa.array(found, pa.int32())
        return {"predictions": pa.table(columns), "detections": _detections(columns, told)}
    for head in card.heads:
        answers = [_of_head(answer, head.name) for answer in told]
        names = [head.name, f"{head.name}_confidence", *(f"{head.name}_p_{name}" for name in head.class_names)]
        values = [
            pa.array([a and a["class_name"] for a in answers], pa.string()),
            pa.array([a and a["confidence"] for a in answers], pa.float32()),
            *(pa.array([a and a["probabilities"][c] for a in answers], pa.float32()) for c in head.class_names),
        ]
        for name, array in zip(names, values, strict=True):
            columns[_free(name, columns)] = array
    return {"predictions": pa.table(columns)}


def _of_head(answer: Mapping[str, Any] | None, head: str) -> dict[str, Any] | None:
    if answer is None:
        return None
    found: dict[str, Any] = answer["classification"] if "classification" in answer else answer["attributes"][head]
    return found


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """An attribute may be called "width"."""
    while name in taken:
        name += "_"
    return name


def _detections(columns: Mapping[str, Any], told: Sequence[dict[str, Any] | None]) -> pa.Table:
    found = [(row, box) for row, answer in enumerate(told) for box in (answer or {"detections": ()})["detections"]]
    rows = pa.array([row for row, _ in found], pa.int64())
    table = {name: columns[name].take(rows) for name in ("key", "sha256", "model", "version")}
    table["class_id"] = pa.array([box["class_id"] for _, box in found], pa.int32())
    table["class_name"] = pa.array([box["class_name"] for _, box in found], pa.string())
    table["confidence"] = pa.array([box["confidence"] for _, box in found], pa.float32())
    for at, name in enumerate(("x1", "y1", "x2", "y2")):
        table[name] = pa.array([box["box"][at] for _, box in found], pa.float32())
    return pa.table(table)


def _lots(keys: Sequence[str], rows: Sequence[_Answer]) -> dict[str, LotSummary]:
    lots: dict[str, list[_Answer]] = {}
    for key, row in zip(keys, rows, strict=True):
        folder, slash, _ = key.partition("/")
        lots.setdefault(folder if slash else ".", []).append(row)
    return {name: _lot(lots[name]) for name in sorted(lots)}


def _lot(rows: Sequence[_Answer]) -> LotSummary:
    shown: Counter[str] = Counter()
    confidences: list[float] = []
    for row in rows:
        labels = _labels(from_json(row.answer)) if row.answer else []
        shown.update({name for name, _ in labels})
        confidences += [confidence for _, confidence in labels]
    answered = sum(bool(row.answer) for row in rows)
    return LotSummary(
        images=len(rows),
        failed=len(rows) - answered,
        shares={name: count / answered for name, count in sorted(shown.items())},
        confidence=sum(confidences) / len(confidences) if confidences else None,
    )


def _labels(answer: Mapping[str, Any]) -> list[tuple[str, float]]:
    """`Prediction.labels` of what `Prediction.to_dict` gave."""
    if "attributes" in answer:
        return [(f"{name}={a['class_name']}", a["confidence"]) for name, a in answer["attributes"].items()]
    found = answer["detections"] if "detections" in answer else [answer["classification"]]
    return [(one["class_name"], one["confidence"]) for one in found]


def _write(table: pa.Table, folder: Path, name: str) -> list[Path]:
    parquet, csv = folder / f"{name}.parquet", folder / f"{name}.csv"
    _write_parquet(table, parquet)
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(table, sink)
    _replace(csv, sink.getvalue().to_pybytes())
    return [parquet, csv]


def _write_parquet(table: pa.Table, path: Path) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    _replace(path, sink.getvalue().to_pybytes())


def _replace(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def render_batch_html(summary: BatchSummary) -> str:
    """A page with the share of each class in each lot."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("visionops", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    names = sorted({name for lot in summary.lots.values() for name in lot.shares})
    return environment.get_template("batch.html.j2").render(summary=summary, names=names)
