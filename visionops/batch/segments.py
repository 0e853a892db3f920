"""Store answers below the output while they are computed, so that no image is predicted twice."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from visionops.batch.answers import ANSWERS, Answer
from visionops.data.dataset import Dataset
from visionops.data.output import Output
from visionops.errors import DataError

__all__ = ["read_segments", "write_segment"]

_READERS = 8


def read_segments(output: Output, folder: str, images: Dataset) -> tuple[dict[str, Answer], bool]:
    """Read earlier answers for these images, as far as their hashes are known, and whether there were any answers.

    Raises:
        DataError: A file of ``folder`` cannot be read.
    """
    wanted = set(images.column("sha256"))
    is_hashed = "" not in wanted
    names = [name for name in output.names(folder) if name.endswith(".parquet")]

    def read(name: str) -> list[Answer]:
        data = output.read(f"{folder}/{name}")
        try:
            rows = pq.read_table(pa.BufferReader(data), schema=ANSWERS).to_pylist()
        except (OSError, pa.ArrowException) as error:
            place = f"{output.place}/{folder}/{name}"
            raise DataError(f"{place}: cannot be read ({error}); remove it to predict its images again") from error
        return [Answer(**row) for row in rows if not is_hashed or row["sha256"] in wanted]

    with ThreadPoolExecutor(_READERS) as pool:
        found = [answer for answers in pool.map(read, names) for answer in answers]
    return {answer.sha256: answer for answer in found}, bool(names)


def write_segment(output: Output, folder: str, answers: Sequence[Answer]) -> None:
    """Store ``answers`` as one more file of ``folder``.

    Raises:
        DataError: ``output`` cannot be written.
    """
    table = pa.Table.from_pylist([answer._asdict() for answer in answers], schema=ANSWERS)
    output.write(f"{folder}/{time.time_ns()}-{uuid.uuid4().hex[:8]}.parquet", _parquet(table))


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())
