"""Store logs below a prefix of an object store: an object for each closed segment, and one for each of its files."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionops.errors import DataError
from visionops.monitoring.kinds import FILES, LogKind
from visionops.monitoring.segment_names import SEGMENT, RecordFilter, segment_begin

if TYPE_CHECKING:
    import pyarrow as pa

    from visionops.monitoring.segment_files import SegmentFiles

__all__ = ["S3Logs"]

_CLOCK_STEP = timedelta(minutes=10)
"""Largest difference between clocks."""
_STALLED_SECONDS = 10
_CONNECTIONS = 8
"""Threads that upload files, so that an hour of them is uploaded before an ending server is stopped."""


class S3Logs:
    """Implements `visionops.monitoring.stores.LogStore` with an object store."""

    def __init__(self, uri: str, kind: LogKind) -> None:
        self._uri = uri
        self._kind = kind
        self._opened: tuple[Any, str] | None = None

    def ship(self, segment: Path, files: SegmentFiles) -> int:
        """See `LogStore`."""
        data = segment.read_bytes()
        with self._filesystem("written") as (store, prefix):
            missing = _put_files(store, f"{prefix}/{segment.stem}{FILES}", files) if files.names() else 0
            _put(store, f"{prefix}/{segment.name}", data)
        return missing

    def read(self, wanted: RecordFilter, without: Collection[str]) -> pa.Table:
        """See `LogStore`."""
        from pyarrow import dataset

        with self._filesystem("read") as (store, prefix):
            listed = self._listed(store, prefix)
            found = [info for info in listed if _may_have(info, wanted) and Path(info.path).stem not in without]
            segments = dataset.dataset([info.path for info in found], self._kind.schema(), "parquet", store)
            return segments.to_table(filter=wanted.expression())

    def stems(self) -> list[str]:
        """See `LogStore`."""
        with self._filesystem("read") as (store, prefix):
            names = [info.base_name for info in self._listed(store, prefix)]
        return sorted(Path(name).stem for name in names if SEGMENT.fullmatch(name))

    def read_segment(self, stem: str) -> pa.Table | None:
        """See `LogStore`."""
        import pyarrow.parquet as pq

        with self._filesystem("read") as (store, prefix), contextlib.suppress(FileNotFoundError):
            return pq.read_table(
                f"{prefix}/{stem}.parquet", schema=self._kind.schema(), filesystem=store, partitioning=None
            )
        return None

    def read_file(self, stem: str, name: str) -> bytes | None:
        """See `LogStore`."""
        with self._filesystem("read") as (store, prefix):
            try:
                with store.open_input_stream(f"{prefix}/{stem}{FILES}/{name}") as stream:
                    return bytes(stream.read())
            except FileNotFoundError:
                return None

    def prune(self, oldest: datetime) -> None:
        """Do nothing, because a lifecycle rule of the bucket prunes records."""

    def _listed(self, store: Any, prefix: str) -> list[Any]:
        from pyarrow import fs

        listed: list[Any] = store.get_file_info(fs.FileSelector(prefix, allow_not_found=True))
        if not listed and store.get_file_info(prefix.partition("/")[0]).type is fs.FileType.NotFound:
            raise FileNotFoundError("the bucket does not exist")
        return listed

    @contextlib.contextmanager
    def _filesystem(self, done: str) -> Iterator[tuple[Any, str]]:
        import pyarrow as pa

        from visionops.object_store import first_line, open_prefix

        try:
            # A process that ends waits for running requests, so no store may hang for long.
            self._opened = self._opened or open_prefix(self._uri, _STALLED_SECONDS)
            store, prefix = self._opened
            yield store, f"{prefix}/{self._kind.folder}".rstrip("/")
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{self._uri}: cannot be {done} ({first_line(error)}); check the name, AWS_ENDPOINT_URL and the "
                "credentials"
            ) from error


def _put_files(store: Any, folder: str, files: SegmentFiles) -> int:
    """Upload files that an earlier try did not upload; return the number of missing files."""
    from pyarrow import fs

    listed = store.get_file_info(fs.FileSelector(folder, allow_not_found=True))
    there = {info.base_name: info.size for info in listed}

    def bring(name: str) -> bool:
        data = files.read(name)
        if data is not None:
            _put(store, f"{folder}/{name}", data)
        return data is not None

    todo = [name for name in files.names() if not there.get(name) or there[name] != (files.size(name) or there[name])]
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        try:
            return list(pool.map(bring, todo)).count(False)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _put(store: Any, path: str, data: bytes) -> None:
    # Uploaded in one piece, so a partial upload is no object. A `with` would complete it even after an error.
    stream = store.open_output_stream(path)
    stream.write(data)
    stream.close()


def _may_have(segment: Any, wanted: RecordFilter) -> bool:
    """Return whether a listed object may have wanted records, which came after its begin and before it was stored."""
    if not SEGMENT.fullmatch(segment.base_name):
        return False
    too_late = wanted.until is not None and segment_begin(segment.base_name) - _CLOCK_STEP >= wanted.until
    return not too_late and (wanted.since is None or segment.mtime + _CLOCK_STEP >= wanted.since)
