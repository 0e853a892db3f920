"""Send the closed segments of a log to a store, each once, and retry until it succeeds.

20260302T051408001522Z-4711-03ab77d1.parquet    a closed segment
20260302T051408001522Z-4711-03ab77d1.shipped    the store has it; names the store
"""

from __future__ import annotations

import contextlib
import fcntl
import queue
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from visionops.data.files import describe_os_error
from visionops.errors import DataError
from visionops.monitoring.kinds import PREDICTIONS, LogKind
from visionops.monitoring.segment_files import SegmentFiles
from visionops.monitoring.segment_names import SEGMENT
from visionops.monitoring.stores import open_store

__all__ = ["MARK", "Shipper"]

MARK = ".shipped"
_RETRY_SECONDS = 60.0
_ROUND_SECONDS = 3600.0
_SOON_SECONDS = 1.0
_WRITING_SECONDS = 30.0
"""Longest time for writing a sampled image to its file; predictions do not wait for that."""
_CLOSING_SECONDS = 15.0
"""Seconds to close, of the 40 that a pod gets to end, in which it also finishes its requests."""


class Shipper:
    """Send segments on a separate thread, so that a hanging store blocks nothing else. Raises nothing once created.

    Args:
        folder: Folder of the segments.
        uri: URI of the store.
        max_age: Maximum age of a record in a store without a lifecycle rule; None keeps all.
        kind: Kind of log.
        on_missing: Called with the number of files of a segment that the store lacks, because this machine has not.

    Raises:
        DataError: The URI is not that of a store.
    """

    def __init__(
        self,
        folder: Path,
        uri: str,
        max_age: timedelta | None,
        kind: LogKind = PREDICTIONS,
        on_missing: Callable[[int], None] = lambda _files: None,
    ) -> None:
        self.problem = ""
        """Current problem in one line; "" where there is none."""
        self.waiting = 0
        """Number of closed segments that the store does not have yet."""
        self._folder = folder
        self._uri = uri
        self._max_age = max_age
        self._kind = kind
        self._on_missing = on_missing
        self._store = open_store(uri, kind)
        self._is_closed = False
        self._is_early = False
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._ship_all, name="prediction-log-ship", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Wake the thread, because there may be new closed segments."""
        self._wake.put(None)

    def has_shipped(self, segment: Path) -> bool:
        """Return whether the store has the segment."""
        with contextlib.suppress(OSError):
            return segment.with_suffix(MARK).read_text(encoding="utf-8") == self._uri
        return False

    def close(self) -> None:
        """Send all closed segments, with limited waiting for a store that hangs. The next process sends the rest."""
        self._is_closed = True
        self.wake()
        self._thread.join(_CLOSING_SECONDS)

    # The thread

    def _ship_all(self) -> None:
        is_last = False
        while not is_last:
            with contextlib.suppress(queue.Empty):
                later = _RETRY_SECONDS if self.problem else _ROUND_SECONDS
                self._wake.get(timeout=_SOON_SECONDS if self._is_early else later)
            is_last = self._is_closed
            try:
                self.problem = self._ship_waiting()
            except DataError as error:
                self.problem = str(error)
            except OSError as error:
                self.problem = f"{self._folder}: cannot be read ({describe_os_error(error)}); make it readable"

    def _ship_waiting(self) -> str:
        """Send waiting segments, oldest first. A segment that fails is skipped; the second failure ends the round.

        Returns:
            Problem of the first failure.
        """
        closed = sorted(path for path in self._folder.glob("*.parquet") if SEGMENT.fullmatch(path.name))
        waiting = [path for path in closed if not self.has_shipped(path)]
        self.waiting = len(waiting)
        self._is_early = False
        problem = ""
        for path in waiting:
            try:
                self.waiting -= self._ship(path)
            except DataError as error:
                if problem:
                    raise
                problem = str(error)
        if waiting and self._max_age is not None:
            self._store.prune(datetime.now(UTC) - self._max_age)
        return problem

    def _ship(self, path: Path) -> bool:
        """Send a segment; return False where it is too early, because its files are still being written."""
        # The lock is for processes that share the folder: without it each would send every segment.
        with contextlib.suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self.has_shipped(path):
                files = self._files(path)
                is_young = time.time() - path.stat().st_mtime < _WRITING_SECONDS
                if is_young and not self._is_closed and files.missing():
                    self._is_early = True
                    return False
                if missing := self._store.ship(path, files):
                    self._on_missing(missing)
                path.with_suffix(MARK).write_text(self._uri, encoding="utf-8")
        return True

    def _files(self, path: Path) -> SegmentFiles:
        try:
            return SegmentFiles.find(path, self._kind)
        except FileNotFoundError:
            raise  # another process removed it
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"{path}: cannot be read ({reason}); remove it") from error
