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

import contextlib
import dataclasses
import hashlib
import itertools
import json
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict
from pydantic_core import from_json, to_json

from visionops.data.dataset import Dataset, Split
from visionops.data.files import describe_os_error, walk_files
from visionops.data.output import Output
from visionops.data.remote import is_uri
from visionops.errors import DataError, ImageError
from visionops.home import visionops_home
from visionops.inference.bundle import BundleCard, ModelBundle
from visionops.inference.engines import available_cpus
from visionops.inference.prediction import Prediction
from visionops.inference.predictor import Load, Predictor
from visionops.inference.settings import ServingConfig
from visionops.monitoring.batches import BatchRecorder
from visionops.monitoring.log import PredictionLog

__all__ = [
    "BatchAnswers",
    "BatchSummary",
    "LotSummary",
    "ask_images",
    "batch_places",
    "batch_predictor",
    "list_images",
    "named_images",
    "predict_batch",
    "render_batch_html",
    "write_tables",
]

_SEGMENT = 64
"""Images between two writes: what a killed run has to do again at most."""
_CHUNK = 65_536
"""Rows of a table that are made at once: what the rest of it costs is Arrow's memory, not Python's."""
_READERS = 8
_VERSION = 2
"""Of how answers are kept: those of another one are asked again."""
_ANSWERS = pa.schema(
    [
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("error", pa.string()),  # without the key: two images may have the same bytes
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


@dataclasses.dataclass(frozen=True)
class BatchAnswers:
    """What the images of one shard were answered."""

    run: str
    """Identity of model, engine and thresholds."""
    asked: int
    """Images that the model was asked for now."""
    seconds: float
    rows: pa.Table
    """``key`` and what is kept of an answer, a row an image."""

    def save(self, folder: Path) -> None:
        """Write ``answers.parquet`` and ``answers.json`` into ``folder``."""
        pq.write_table(self.rows, folder / "answers.parquet")
        told = {"run": self.run, "asked": self.asked, "seconds": self.seconds}
        (folder / "answers.json").write_text(json.dumps(told), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> BatchAnswers:
        """Read what `save` wrote.

        Raises:
            DataError: A file is missing or is not what `save` writes.
        """
        try:
            told = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
            return cls(**told, rows=pq.read_table(folder / "answers.parquet"))
        except (OSError, ValueError, TypeError, pa.ArrowException) as error:
            raise DataError(f"{folder}: no saved answers of a batch ({error}); run again") from error


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
    """Absolute paths or URIs of the tables."""


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
    return named_images(keys, name).replace_column("path", [str(folder / key) for key in keys])


def batch_places(given: tuple[str | None, str | None], label: str, shared: str | None) -> tuple[str, str]:
    """Where the images are ("" for those of the data set) and where the tables go.

    Args:
        given: ``--input`` and ``--output``.
        label: Of the tables, below where they go when nothing is given.
        shared: What steps on other machines share, as ``s3://bucket/prefix``; None where steps run on this one.

    Raises:
        DataError: A folder of this machine is given to steps on others.
    """
    for flag, place in zip(("--input", "--output"), given, strict=True):
        if place and shared is not None and not is_uri(place):
            raise DataError(f"{flag} {place}: steps run on other machines; give {flag} s3://bucket/prefix")
    if shared is not None and not given[1] and not is_uri(shared):
        raise DataError("--output: steps run on other machines; give --output s3://bucket/prefix")
    home = str(visionops_home()) if shared is None else f"{shared.rstrip('/')}/visionops"
    folder, output = (
        place and (place if is_uri(place) else str(Path(place).absolute()))
        for place in (given[0], given[1] or f"{home}/predictions/{label}")
    )
    return folder or "", output or ""


def named_images(keys: Sequence[str], name: str) -> Dataset:
    """Images for a batch of which only the names are known yet."""
    return Dataset.from_columns(name, (), {"key": keys, "split": [Split.UNLABELLED.value] * len(keys)}, {})


def batch_predictor(bundle: ModelBundle, serving: ServingConfig) -> Predictor:
    """The predictor of the server, with one thread an image: a batch has an image for every core."""
    update = {"confidence": serving.confidence, "iou": serving.iou}
    thresholds = bundle.card.thresholds.model_copy(update=update)
    busy = Load(images=1)  # the last image of a batch is computed as the first was
    return Predictor(bundle, serving.engine, thresholds=thresholds, streams=available_cpus(), load=busy)


def predict_batch(
    predictor: Predictor,
    dataset: Dataset,
    output: Output,
    version: str,
    progress: Callable[[int, str], None] = lambda _done, _note: None,
    log: PredictionLog | None = None,
) -> BatchSummary:
    """`ask_images`, then `write_tables`.

    Raises:
        DataError: As either.
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
    """Answer for the unlabelled images of ``dataset``; keep the answers below ``output`` as they come.

    A bad image is a row with an error. What the same model has answered into ``output`` before, by the bytes of the
    image, is not asked again; a killed run goes on. Several processes may answer into one output at once, each for
    images of its own.

    Args:
        version: Of the model, for the log.
        progress: Called from this thread with the images done and a note.
        log: Gets a record of each image that is asked now.

    Raises:
        DataError: ``output`` cannot be read or written.
    """
    start = time.perf_counter()
    images = dataset.select_split(Split.UNLABELLED)
    run = _identity(predictor)
    segments = f"segments/{run}"
    known, is_resumed = _read_segments(output, segments, images)
    place = f"{output.place}/{segments}"
    recorder = BatchRecorder(log, place, predictor.bundle, version, is_resumed=is_resumed) if log else None
    answers: list[_Answer | None] = [known.get(sha256) for sha256 in images.column("sha256")]
    todo = [row for row, answer in enumerate(answers) if answer is None]
    progress(images.num_images - len(todo), "")

    def ask(path: Path, key: str) -> tuple[_Answer, bool]:
        return _ask(predictor, recorder, known, path, key)

    def keep(segment: Sequence[_Answer]) -> None:
        table = pa.Table.from_pylist([answer._asdict() for answer in segment], schema=_ANSWERS)
        output.write(f"{segments}/{time.time_ns()}-{uuid.uuid4().hex[:8]}.parquet", _parquet(table))

    asked = _predict(images, todo, answers, ask, keep, progress)
    rows = pa.Table.from_pylist([answer._asdict() for answer in answers if answer is not None], schema=_ANSWERS)
    keys = pa.array(images.column("key"), pa.string())
    return BatchAnswers(run, asked, time.perf_counter() - start, rows.add_column(0, "key", keys))


def _identity(predictor: Predictor) -> str:
    """What two runs share when their answers are the same."""
    told = f"{_VERSION} {predictor.bundle.digest} {predictor.engine.name} {predictor.thresholds.model_dump_json()}"
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _read_segments(output: Output, folder: str, images: Dataset) -> tuple[dict[str, _Answer], bool]:
    """What was answered before, of these images if their hashes are known; and whether anything was."""
    wanted = set(images.column("sha256"))
    is_hashed = "" not in wanted
    names = [name for name in output.names(folder) if name.endswith(".parquet")]

    def read(name: str) -> list[_Answer]:
        data = output.read(f"{folder}/{name}")
        try:
            rows = pq.read_table(pa.BufferReader(data), schema=_ANSWERS).to_pylist()
        except (OSError, pa.ArrowException) as error:
            place = f"{output.place}/{folder}/{name}"
            raise DataError(f"{place}: cannot be read ({error}); remove it, its images are asked again") from error
        return [_Answer(**row) for row in rows if not is_hashed or row["sha256"] in wanted]

    with ThreadPoolExecutor(_READERS) as pool:
        found = [answer for answers in pool.map(read, names) for answer in answers]
    return {answer.sha256: answer for answer in found}, bool(names)


def _predict(
    images: Dataset,
    todo: Sequence[int],
    answers: list[_Answer | None],
    ask: Callable[[Path, str], tuple[_Answer, bool]],
    keep: Callable[[Sequence[_Answer]], None],
    progress: Callable[[int, str], None],
) -> int:
    """Fill ``answers`` at the rows ``todo``; how many the model was asked for."""
    keys, paths = images.column("key"), images.paths()
    done, failed, asked = images.num_images - len(todo), 0, 0
    segment: list[_Answer] = []
    # Twice as many as there are streams: while they compute, the next images are decoded.
    with ThreadPoolExecutor(2 * available_cpus()) as pool:
        # A window ahead of what is written: no core waits at the end of a segment, and memory stays bounded.
        ahead: deque[tuple[int, Future[tuple[_Answer, bool]]]] = deque()
        try:
            for row in itertools.chain(todo, itertools.repeat(None, _SEGMENT)):
                if row is not None:
                    ahead.append((row, pool.submit(ask, paths[row], keys[row])))
                if not ahead or (row is not None and len(ahead) < _SEGMENT):
                    continue
                first, future = ahead.popleft()
                answer, is_new = future.result()
                answers[first] = answer
                done, failed, asked = done + 1, failed + bool(answer.error), asked + is_new
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
    return asked


def _ask(
    predictor: Predictor, recorder: BatchRecorder | None, known: Mapping[str, _Answer], path: Path, key: str
) -> tuple[_Answer, bool]:
    """The answer, and whether it is a new one."""
    try:
        data = path.read_bytes() if path != Path() else b""
    except OSError as error:  # without the bytes there is no name to remember it by: the next run tries again
        return _Answer("", None, None, f"cannot be read ({describe_os_error(error)})", ""), True
    if path == Path():
        return _Answer("", None, None, "the file is missing", ""), True
    sha256 = hashlib.sha256(data).hexdigest()
    if answer := known.get(sha256):
        return answer, False
    seen: list[tuple[npt.NDArray[np.uint8], Prediction]] = []
    start = time.perf_counter()
    try:
        prediction = predictor.predict(data, where=key, watch=lambda *found: seen.append(found))
    except ImageError as error:
        return _Answer(sha256, None, None, str(error).removeprefix(f"{key}: "), ""), True
    if problem := prediction.problem():
        return _Answer(sha256, prediction.width, prediction.height, problem, ""), True
    rgb, recorded = seen[0]
    if recorder and not recorded.problem():  # at the card's thresholds there may be boxes that the answer leaves out
        recorder.record(path, key, sha256, rgb, recorded, (time.perf_counter() - start) * 1000)
    return _Answer(sha256, prediction.width, prediction.height, "", to_json(prediction.to_dict()).decode()), True


def write_tables(parts: Sequence[BatchAnswers], card: BundleCard, version: str, output: Output) -> BatchSummary:
    """Join the answers of all shards, sorted by key, into the tables and ``summary.json``.

    The tables depend on the images and the model alone: into how many shards the images were cut, and in which order
    those were done, changes no byte.

    Args:
        parts: Each image in one of them.
        card: Of the bundle that answered.

    Raises:
        DataError: No image was answered for, the shards were answered by different models, or ``output`` cannot be
            written.
    """
    start = time.perf_counter()
    if len({part.run for part in parts}) > 1:
        raise DataError(f"{output.place}: its shards were answered by different models; run again")
    rows = pa.concat_tables(part.rows for part in parts)
    if not rows.num_rows:
        raise DataError(f"{card.name}: its data has no unlabelled images; name a folder with --input")
    rows = rows.take(pc.sort_indices(rows["key"]))
    lots: dict[str, _Lot] = {}
    with contextlib.ExitStack() as stack:
        writers: dict[str, _TableWriter] = {}
        for first in range(0, rows.num_rows, _CHUNK):
            chunk = rows.slice(first, _CHUNK)
            keys = chunk["key"].to_pylist()
            answers = [_Answer(**row) for row in chunk.drop_columns("key").to_pylist()]
            told = [from_json(answer.answer) if answer.answer else None for answer in answers]
            for name, table in _tables(keys, answers, told, card, version).items():
                if name not in writers:
                    writers[name] = stack.enter_context(_table_writer(output, name, table.schema))
                writers[name].write(table)
            for key, answer in zip(keys, told, strict=True):
                folder, slash, _ = key.partition("/")
                lots.setdefault(folder if slash else ".", _Lot()).add(answer)
    summary = BatchSummary(
        model=card.name,
        version=version,
        images=rows.num_rows,
        predicted=sum(part.asked for part in parts),
        failed=sum(lot.images - lot.answered for lot in lots.values()),
        seconds=sum(part.seconds for part in parts) + time.perf_counter() - start,
        lots={name: lots[name].summary() for name in sorted(lots)},
        files=tuple(file for writer in writers.values() for file in writer.files),
    )
    output.write("summary.json", summary.model_dump_json(indent=1).encode())
    return summary


@dataclasses.dataclass
class _TableWriter:
    """A table as Parquet and CSV, in pieces."""

    parquet: pq.ParquetWriter
    csv: pyarrow.csv.CSVWriter
    files: tuple[str, str]

    def write(self, table: pa.Table) -> None:
        self.parquet.write_table(table)
        self.csv.write_table(table)


@contextlib.contextmanager
def _table_writer(output: Output, name: str, schema: pa.Schema) -> Iterator[_TableWriter]:
    names = f"{name}.parquet", f"{name}.csv"
    with (
        output.writing(names[0]) as parquet,
        output.writing(names[1]) as csv,
        pq.ParquetWriter(parquet, schema) as parquet_writer,
        pyarrow.csv.CSVWriter(csv, schema) as csv_writer,
    ):
        yield _TableWriter(parquet_writer, csv_writer, (output.uri(names[0]), output.uri(names[1])))


def _tables(
    keys: Sequence[str],
    rows: Sequence[_Answer],
    told: Sequence[dict[str, Any] | None],
    card: BundleCard,
    version: str,
) -> dict[str, pa.Table]:
    """File name to its table."""
    n = len(rows)
    columns: dict[str, Any] = {
        "key": pa.array(keys, pa.string()),
        "sha256": pa.array([row.sha256 for row in rows], pa.string()),
        "width": pa.array([row.width for row in rows], pa.int32()),
        "height": pa.array([row.height for row in rows], pa.int32()),
        "model": pa.array([card.name] * n, pa.string()),
        "version": pa.array([version] * n, pa.string()),
        "error": pa.array(
            [row.error and f"{key}: {row.error}" for key, row in zip(keys, rows, strict=True)], pa.string()
        ),
    }
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


@dataclasses.dataclass
class _Lot:
    """What `LotSummary` is counted from."""

    images: int = 0
    answered: int = 0
    shown: Counter[str] = dataclasses.field(default_factory=Counter)
    labels: int = 0
    confidence: float = 0.0

    def add(self, answer: Mapping[str, Any] | None) -> None:
        self.images += 1
        self.answered += answer is not None
        labels = _labels(answer) if answer else []
        self.shown.update({name for name, _ in labels})
        self.labels += len(labels)
        for _, confidence in labels:
            self.confidence += confidence

    def summary(self) -> LotSummary:
        return LotSummary(
            images=self.images,
            failed=self.images - self.answered,
            shares={name: count / self.answered for name, count in sorted(self.shown.items())},
            confidence=self.confidence / self.labels if self.labels else None,
        )


def _labels(answer: Mapping[str, Any]) -> list[tuple[str, float]]:
    """`Prediction.labels` of what `Prediction.to_dict` gave."""
    if "attributes" in answer:
        return [(f"{name}={a['class_name']}", a["confidence"]) for name, a in answer["attributes"].items()]
    found = answer["detections"] if "detections" in answer else [answer["classification"]]
    return [(one["class_name"], one["confidence"]) for one in found]


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


def render_batch_html(summary: BatchSummary) -> str:
    """A page with the share of each class in each lot."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("visionops", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    names = sorted({name for lot in summary.lots.values() for name in lot.shares})
    return environment.get_template("batch.html.j2").render(summary=summary, names=names)
