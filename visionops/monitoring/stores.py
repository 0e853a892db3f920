"""Stores of prediction logs beside the folder: a prefix of an object store, or a PostgreSQL database.

    s3://bucket/prefix               an object for each closed segment, of its name
    postgresql://user@host/database  a row for each record in `visionops_predictions`; its segment and place are its key

A segment's name is its identity: one that is brought twice stands there once. Credentials come from the environment:
``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_ENDPOINT_URL``; ``PGPASSWORD`` or ``PGPASSFILE``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from visionops.addresses import check_store
from visionops.errors import DataError

# Not above: a server without a store must not wait for any of them, nor one without a log for pyarrow.
if TYPE_CHECKING:
    import psycopg
    import pyarrow as pa
    import pyarrow.compute as pc

__all__ = ["SEGMENT", "LogStore", "Wanted", "is_store", "open_store", "segment_begin"]


SEGMENT = re.compile(r"\d{8}T\d{12}Z-\d+-[0-9a-f]{8}\.(jsonl|parquet)")
"""Name of a file of the log."""

_NAME_TIME = "%Y%m%dT%H%M%S%f"
_CLOCK_STEP = timedelta(minutes=10)
"""How far clocks may differ, or be set back."""
_CONNECT_SECONDS = 10
_STUCK_SECONDS = 30
_ROWS = 5000
_TABLE = "visionops_predictions"
_COLUMNS = "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped"
"""Of a table; none where there is no such table."""
_LOCK = 0x56_4F_50_4C
"""Of the database, while the table is made: two that make it at once would fail."""


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """Which records are read."""

    since: datetime | None = None
    """From this time on; aware."""
    until: datetime | None = None
    """Before this time; aware."""
    model: str | None = None
    version: str | None = None

    def __post_init__(self) -> None:
        for name, when in (("since", self.since), ("until", self.until)):
            if when is not None and when.utcoffset() is None:
                raise DataError(f"{name}: {when.isoformat()} has no time zone; say which, as {when.isoformat()}+00:00")

    def expression(self) -> pc.Expression:
        """For a table of `record_schema`."""
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted, when = pc.scalar(True), pa.timestamp("us", tz="UTC")
        if self.since is not None:
            wanted &= pc.field("time") >= pa.scalar(self.since, when)
        if self.until is not None:
            wanted &= pc.field("time") < pa.scalar(self.until, when)
        for name, value in (("model", self.model), ("version", self.version)):
            if value is not None:
                wanted &= pc.field(name) == value
        return wanted


class LogStore(Protocol):
    """Where closed segments go. All of it raises `DataError`, in one line, where the store cannot be reached."""

    def ship(self, segment: Path) -> None:
        """Bring a closed segment: whole or not at all, and once however often it is brought."""

    def read(self, wanted: Wanted, without: Collection[str]) -> pa.Table:
        """The records that are wanted, with the schema `record_schema`, but for those of the segments ``without``."""

    def prune(self, oldest: datetime) -> None:
        """Remove the records before ``oldest``, where the store does not do so by a rule of its own."""


def is_store(place: object) -> bool:
    """Whether ``place`` names a store and not a folder."""
    return isinstance(place, str) and "://" in place


def open_store(uri: str) -> LogStore:
    """The store of that name; nothing is asked of it yet.

    Raises:
        DataError: It names none.
    """
    try:
        check_store(uri)
    except ValueError as error:
        raise DataError(f"prediction log store: {error}") from error
    return _S3Store(uri) if uri.startswith("s3:") else _PostgresStore(uri)


def segment_begin(stem: str) -> datetime:
    """When the segment of this name was begun."""
    return datetime.strptime(stem.partition("Z")[0], _NAME_TIME).replace(tzinfo=UTC)


class _S3Store:
    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._opened: tuple[Any, str] | None = None

    def ship(self, segment: Path) -> None:
        data = segment.read_bytes()
        with self._filesystem("written") as (store, prefix):
            # In one piece: what is half written is no object. A `with` would complete it even after an error.
            stream = store.open_output_stream(f"{prefix}/{segment.name}")
            stream.write(data)
            stream.close()

    def read(self, wanted: Wanted, without: Collection[str]) -> pa.Table:
        from pyarrow import dataset, fs

        from visionops.monitoring.record import record_schema

        with self._filesystem("read") as (store, prefix):
            listed = store.get_file_info(fs.FileSelector(prefix, allow_not_found=True))
            if not listed and store.get_file_info(prefix.partition("/")[0]).type is fs.FileType.NotFound:
                raise FileNotFoundError("there is no such bucket")
            found = [info for info in listed if _may_have(info, wanted) and Path(info.path).stem not in without]
            segments = dataset.dataset([info.path for info in found], record_schema(), "parquet", store)
            return segments.to_table(filter=wanted.expression())

    def prune(self, oldest: datetime) -> None:
        """A lifecycle rule of the bucket does it."""

    @contextlib.contextmanager
    def _filesystem(self, done: str) -> Iterator[tuple[Any, str]]:
        import pyarrow as pa

        from visionops.object_store import open_prefix

        try:
            # A process that ends waits for what is under way, so no store may hang for long.
            self._opened = self._opened or open_prefix(self._uri, _CONNECT_SECONDS)
            yield self._opened
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{self._uri}: cannot be {done} ({_first_line(error)}); check the name, AWS_ENDPOINT_URL and the "
                "credentials"
            ) from error


def _may_have(segment: Any, wanted: Wanted) -> bool:
    """Whether this object, as listed, is worth opening: its records came after its begin and before it was stored."""
    if not SEGMENT.fullmatch(segment.base_name):
        return False
    too_late = wanted.until is not None and segment_begin(segment.base_name) - _CLOCK_STEP >= wanted.until
    return not too_late and (wanted.since is None or segment.mtime + _CLOCK_STEP >= wanted.since)


class _PostgresStore:
    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._is_made = False

    def ship(self, segment: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        from visionops.monitoring.record import record_schema

        try:
            table = pq.read_table(segment, schema=record_schema(), partitioning=None)
        except FileNotFoundError:
            raise  # another process removed it
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{segment}: cannot be read ({_first_line(error)}); remove it") from error
        names = ", ".join(f'"{name}"' for name in ("segment", "place", *table.schema.names))
        with self._connect("written") as cursor:
            self._make_table(cursor)
            cursor.execute(f"CREATE TEMPORARY TABLE arrived (LIKE {_TABLE}) ON COMMIT DROP")
            with cursor.copy(f"COPY arrived ({names}) FROM STDIN (FORMAT csv)") as copy:
                copy.write(_csv(segment.stem, table))
            cursor.execute(
                f"INSERT INTO {_TABLE} ({names}) SELECT {names} FROM arrived ON CONFLICT DO NOTHING"  # noqa: S608
            )
        self._is_made = True

    def read(self, wanted: Wanted, without: Collection[str]) -> pa.Table:
        import pyarrow as pa

        from visionops.monitoring.record import record_schema

        schema = record_schema()
        asked: list[tuple[str, object]] = [("time >= %s", wanted.since), ("time < %s", wanted.until)]
        asked += [("model = %s", wanted.model), ("version = %s", wanted.version)]
        asked = [(text, value) for text, value in asked if value is not None]
        asked.append(("segment <> ALL(%s)", list(without)))
        where = " AND ".join(text for text, _ in asked)
        tables = [schema.empty_table()]
        with self._connect("read") as cursor:
            there = {name for (name,) in cursor.execute(_COLUMNS, [_TABLE])}
            if not there:
                return tables[0]  # nothing was shipped yet
            # Whoever ships may lack the package of a task that this process has.
            known = pa.schema([field for field in schema if field.name in there])
            names = ", ".join(f'"{name}"' for name in known.names)
            # A cursor of the server: what is read is not in memory twice.
            with cursor.connection.cursor(_TABLE) as found:
                values = [value for _, value in asked]
                found.execute(f"SELECT {names} FROM {_TABLE} WHERE {where}", values, binary=True)  # noqa: S608
                while rows := found.fetchmany(_ROWS):
                    tables.append(pa.table(list(map(list, zip(*rows, strict=True))), schema=known))
        return pa.concat_tables(tables, promote_options="default")

    def prune(self, oldest: datetime) -> None:
        with self._connect("written") as cursor:
            self._make_table(cursor)
            cursor.execute(f"DELETE FROM {_TABLE} WHERE time < %s", [oldest])  # noqa: S608 - the table is ours

    @contextlib.contextmanager
    def _connect(self, done: str) -> Iterator[psycopg.Cursor[Any]]:
        """One transaction: committed where the block ends well."""
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
        """Or add the columns that an older version did not have."""
        from visionops.monitoring.record import record_schema

        if self._is_made:
            return
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        cursor.execute(
            f"CREATE TABLE IF NOT EXISTS {_TABLE} (segment text, place integer, PRIMARY KEY (segment, place))"
        )
        columns = ", ".join(
            f'ADD COLUMN IF NOT EXISTS "{field.name}" {_sql_type(field.type)}' for field in record_schema()
        )
        cursor.execute(f"ALTER TABLE {_TABLE} {columns}")
        cursor.execute(f"CREATE INDEX IF NOT EXISTS {_TABLE}_by_time ON {_TABLE} (time)")


def _sql_type(kind: pa.DataType) -> str:
    import pyarrow as pa

    if pa.types.is_list(kind):
        return f"{_sql_type(kind.value_type)}[]"
    names = {pa.int32(): "integer", pa.float32(): "real", pa.string(): "text"}
    return "timestamptz" if pa.types.is_timestamp(kind) else names[kind]


def _csv(stem: str, table: pa.Table) -> bytes:
    """As COPY reads it. By Arrow, which lets the threads of requests run; row by row in Python would not."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv

    # Not `pa.array`, which would import pandas, where it is installed, into a server that does not need it.
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
    """`[0.5, None]` as `{0.5,NULL}`, `["a"]` as `{"a"}`."""
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

    return pc.replace_substring(texts, "\0", "")  # the one character that PostgreSQL's text cannot hold


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].partition(" (Request ID")[0]
