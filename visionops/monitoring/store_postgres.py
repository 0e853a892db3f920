"""Store logs in a PostgreSQL database: a row for each record, and one for each file of a segment."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionops.errors import DataError
from visionops.monitoring.kinds import LogKind
from visionops.monitoring.segment_names import RecordFilter

if TYPE_CHECKING:
    import psycopg
    import pyarrow as pa

    from visionops.monitoring.segment_files import SegmentFiles

__all__ = ["PostgresLogs"]

_CONNECT_SECONDS = 10
_STUCK_SECONDS = 30
_ROWS = 5000
_COLUMNS = "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped"
"""Query for the columns of a table; empty where the table does not exist."""
_LOCK = 0x56_4F_50_4C
"""Database lock while the table is created, because two processes that create it at once would fail."""


class PostgresLogs:
    """Implements `visionops.monitoring.stores.LogStore` with a PostgreSQL database."""

    def __init__(self, uri: str, kind: LogKind) -> None:
        self._uri = uri
        self._kind = kind
        self._table = kind.table
        self._is_made = False

    def ship(self, segment: Path, files: SegmentFiles) -> int:
        """See `LogStore`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(segment, schema=self._kind.schema(), partitioning=None)
        except FileNotFoundError:
            raise  # another process removed it
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{segment}: cannot be read ({_first_line(error)}); remove it") from error
        names = ", ".join(f'"{name}"' for name in ("segment", "place", *table.schema.names))
        with self._connect("written") as cursor:
            self._make_table(cursor)
            missing = self._ship_files(cursor, segment.stem, files)
            cursor.execute(f"CREATE TEMPORARY TABLE arrived (LIKE {self._table}) ON COMMIT DROP")
            with cursor.copy(f"COPY arrived ({names}) FROM STDIN (FORMAT csv)") as copy:
                copy.write(_csv(segment.stem, table))
            cursor.execute(
                f"INSERT INTO {self._table} ({names}) SELECT {names} FROM arrived ON CONFLICT DO NOTHING"  # noqa: S608
            )
        self._is_made = True
        return missing

    def read(self, wanted: RecordFilter, without: Collection[str]) -> pa.Table:
        """See `LogStore`."""
        conditions: list[tuple[str, object]] = [("time >= %s", wanted.since), ("time < %s", wanted.until)]
        conditions += [("model = %s", wanted.model), ("version = %s", wanted.version)]
        conditions = [(text, value) for text, value in conditions if value is not None]
        conditions.append(("segment <> ALL(%s)", list(without)))
        return self._select(" AND ".join(text for text, _ in conditions), [value for _, value in conditions])

    def stems(self) -> list[str]:
        """See `LogStore`."""
        with self._connect("read") as cursor:
            if not self._columns(cursor):
                return []  # nothing was shipped yet
            found = cursor.execute(f"SELECT DISTINCT segment FROM {self._table} ORDER BY segment")  # noqa: S608
            return [stem for (stem,) in found]

    def read_segment(self, stem: str) -> pa.Table | None:
        """See `LogStore`."""
        table = self._select("segment = %s ORDER BY place", [stem])
        return table if len(table) else None

    def read_file(self, stem: str, name: str) -> bytes | None:
        """See `LogStore`."""
        with self._connect("read") as cursor:
            if not self._columns(cursor, "_files"):
                return None  # nothing was shipped yet, or only by a version without files
            query = f"SELECT data FROM {self._table}_files WHERE segment = %s AND name = %s"  # noqa: S608
            found = cursor.execute(query, [stem, name]).fetchone()
            return None if found is None else bytes(found[0])

    def prune(self, oldest: datetime) -> None:
        """See `LogStore`."""
        with self._connect("written") as cursor:
            self._make_table(cursor)
            cursor.execute(f"DELETE FROM {self._table} WHERE time < %s", [oldest])  # noqa: S608 - the table is ours
            cursor.execute(
                f"DELETE FROM {self._table}_files AS file WHERE NOT EXISTS "  # noqa: S608
                f"(SELECT FROM {self._table} AS record WHERE record.segment = file.segment)"
            )

    def _select(self, where: str, values: list[object]) -> pa.Table:
        import pyarrow as pa

        schema = self._kind.schema()
        tables = [schema.empty_table()]
        with self._connect("read") as cursor:
            there = self._columns(cursor)
            if not there:
                return tables[0]  # nothing was shipped yet
            # The process that shipped may lack the package of a task that this process has.
            known = pa.schema([field for field in schema if field.name in there])
            names = ", ".join(f'"{name}"' for name in known.names)
            # A server-side cursor, so that results are not in memory twice.
            with cursor.connection.cursor(self._table) as found:
                found.execute(f"SELECT {names} FROM {self._table} WHERE {where}", values, binary=True)  # noqa: S608
                while rows := found.fetchmany(_ROWS):
                    tables.append(pa.table(list(map(list, zip(*rows, strict=True))), schema=known))
        return pa.concat_tables(tables, promote_options="default")

    def _columns(self, cursor: psycopg.Cursor[Any], suffix: str = "") -> set[str]:
        return {name for (name,) in cursor.execute(_COLUMNS, [self._table + suffix])}

    def _ship_files(self, cursor: psycopg.Cursor[Any], stem: str, files: SegmentFiles) -> int:
        insert = f"INSERT INTO {self._table}_files VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"  # noqa: S608
        missing = 0
        for name in files.names():
            data = files.read(name)
            if data is None:
                missing += 1
            else:
                cursor.execute(insert, [stem, name, data])
        return missing

    @contextlib.contextmanager
    def _connect(self, done: str) -> Iterator[psycopg.Cursor[Any]]:
        """Open one transaction, which is committed if the block succeeds."""
        try:
            import psycopg
        except ImportError as error:
            raise DataError(
                f"{self._uri}: needs psycopg ({_first_line(error)}); pip install 'visionops[postgresql]'"
            ) from error
        try:
            with (
                psycopg.connect(
                    self._uri,
                    connect_timeout=_CONNECT_SECONDS,
                    tcp_user_timeout=_STUCK_SECONDS * 1000,
                    keepalives_idle=_STUCK_SECONDS,
                ) as connection,
                connection.cursor() as cursor,
            ):
                cursor.execute(f"SET LOCAL lock_timeout = '{_STUCK_SECONDS}s'")
                yield cursor
        except psycopg.Error as error:
            raise DataError(
                f"{self._uri}: cannot be {done} ({_first_line(error)}); check the address, PGPASSWORD and the rights"
            ) from error

    def _make_table(self, cursor: psycopg.Cursor[Any]) -> None:
        """Create the table, or add columns that an older version did not have."""
        if self._is_made:
            return
        table = self._table
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        cursor.execute(
            f"CREATE TABLE IF NOT EXISTS {table} (segment text, place integer, PRIMARY KEY (segment, place))"
        )
        columns = ", ".join(
            f'ADD COLUMN IF NOT EXISTS "{field.name}" {_sql_type(field.type)}' for field in self._kind.schema()
        )
        cursor.execute(f"ALTER TABLE {table} {columns}")
        cursor.execute(f"CREATE INDEX IF NOT EXISTS {table}_by_time ON {table} (time)")
        cursor.execute(
            f"CREATE TABLE IF NOT EXISTS {table}_files (segment text, name text, data bytea, "
            "PRIMARY KEY (segment, name))"
        )


def _sql_type(kind: pa.DataType) -> str:
    import pyarrow as pa

    if pa.types.is_list(kind):
        return f"{_sql_type(kind.value_type)}[]"
    names = {pa.int32(): "integer", pa.float32(): "real", pa.string(): "text"}
    return "timestamptz" if pa.types.is_timestamp(kind) else names[kind]


def _csv(stem: str, table: pa.Table) -> bytes:
    """Return CSV for COPY, written by Arrow, which does not block the threads of requests as Python would."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv

    # Not `pa.array`, which would import pandas, if installed, into a server that does not need it.
    places = pc.cumulative_sum(pa.repeat(pa.scalar(1, pa.int32()), len(table)))
    columns = {"segment": pa.repeat(stem, len(table)), "place": places}
    for field in table.schema:
        column = table[field.name].combine_chunks()
        if pa.types.is_list(field.type):
            column = _array_literals(column)
        columns[field.name] = _without_nul(column) if pa.types.is_string(field.type) else column
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(pa.table(columns), sink, pyarrow.csv.WriteOptions(include_header=False))
    return bytes(sink.getvalue())


def _array_literals(lists: pa.ListArray) -> pa.Array:
    """Return `[0.5, None]` as `{0.5,NULL}`, and `["a"]` as `{"a"}`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values = lists.values
    if pa.types.is_string(values.type):
        values = pc.replace_substring_regex(_without_nul(values), r'(["\\])', r"\\\1")
        values = pc.binary_join_element_wise('"', values, '"', "")
    texts = pc.fill_null(pc.cast(values, pa.string()), "NULL")
    joined = pc.binary_join(pa.ListArray.from_arrays(lists.offsets, texts), ",")
    return pc.if_else(lists.is_valid(), pc.binary_join_element_wise("{", joined, "}", ""), pa.scalar(None, pa.string()))


def _without_nul(texts: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    return pc.replace_substring(texts, "\0", "")  # the only character that PostgreSQL's text cannot store


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
