"""Write the answers of all shards as tables, and their summary."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from pydantic_core import from_json

from visionops.batch.answers import Answer, BatchAnswers
from visionops.batch.report import BatchSummary, Lot
from visionops.data.output import Output
from visionops.errors import DataError
from visionops.inference.bundle import BundleCard
from visionops.inference.task_registry import served_task

__all__ = ["write_tables"]

_CHUNK = 65_536
"""Number of table rows built at once, so that large tables use Arrow's memory and not Python's."""


def write_tables(parts: Sequence[BatchAnswers], card: BundleCard, version: str, output: Output) -> BatchSummary:
    """Join the answers of all shards, sorted by key, into the tables and ``summary.json``.

    The tables depend only on the images and the model. The number and the order of the shards change no byte.

    Args:
        parts: Answers of all shards, each image in one of them.
        card: Card of the bundle that answered.

    Raises:
        DataError: There are no answers, the shards were answered by different models, or ``output`` cannot be
            written.
    """
    start = time.perf_counter()
    if len({part.run for part in parts}) > 1:
        raise DataError(f"{output.place}: its shards were answered by different models; run again")
    rows = pa.concat_tables(part.rows for part in parts)
    if not rows.num_rows:
        raise DataError(f"{card.name}: its data has no unlabelled images; name a folder with --input")
    rows = rows.take(pc.sort_indices(rows["key"]))
    task, lots = served_task(card.task), dict[str, Lot]()
    with contextlib.ExitStack() as stack:
        writers: dict[str, _TableWriter] = {}
        for first in range(0, rows.num_rows, _CHUNK):
            chunk = rows.slice(first, _CHUNK)
            keys = chunk["key"].to_pylist()
            answers = [Answer(**row) for row in chunk.drop_columns("key").to_pylist()]
            parsed = [from_json(answer.answer) if answer.answer else None for answer in answers]
            for name, table in _tables(keys, answers, parsed, card, version).items():
                if name not in writers:
                    writers[name] = stack.enter_context(_table_writer(output, name, table.schema))
                writers[name].write(table)
            for key, answer in zip(keys, parsed, strict=True):
                folder, slash, _ = key.partition("/")
                lots.setdefault(folder if slash else ".", Lot()).add(None if answer is None else task.labels(answer))
    summary = BatchSummary(
        model=card.name,
        version=version,
        images=rows.num_rows,
        predicted=sum(part.predicted for part in parts),
        failed=sum(lot.images - lot.answered for lot in lots.values()),
        seconds=sum(part.seconds for part in parts) + time.perf_counter() - start,
        lots={name: lots[name].summary() for name in sorted(lots)},
        files=tuple(file for writer in writers.values() for file in writer.files),
    )
    output.write("summary.json", summary.model_dump_json(indent=1).encode())
    return summary


@dataclasses.dataclass
class _TableWriter:
    """Write a table as Parquet and CSV, in pieces."""

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
    rows: Sequence[Answer],
    parsed: Sequence[dict[str, Any] | None],
    card: BundleCard,
    version: str,
) -> dict[str, pa.Table]:
    """Return the tables, keyed by file name."""
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
    task, shared = served_task(card.task), dict(columns)
    for name, array in task.table(card, parsed):
        columns[_free(name, columns)] = array
    tables = {"predictions": pa.table(columns)}
    for name, part in task.part_tables(card, parsed).items():
        own = {column: shared[column].take(part.rows) for column in ("key", "sha256", "model", "version")}
        tables[name] = pa.table(own | dict(part.columns))
    return tables


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """Return a column name that is not taken: an attribute may be called "width"."""
    while name in taken:
        name += "_"
    return name
