"""Tidy the segments of a log: close abandoned ones, and remove those that are too old or too large."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from visionops.data.files import describe_os_error
from visionops.monitoring.kinds import FILES, LogKind
from visionops.monitoring.segment_names import SEGMENT, segment_begin
from visionops.monitoring.segments import SEGMENT_SECONDS, close_segment, segment_rows, segment_size
from visionops.monitoring.shipping import MARK

__all__ = ["CONSUMED", "FULL", "Tidier", "unwritable"]

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Error numbers of the system for a full disk or quota."""
CONSUMED = ".consumed"
"""Suffix of the file beside a closed segment with the models, one on each line, whose records a reader has taken."""


class Tidier:
    """Tidier of a folder. Any number of processes may run one at once.

    Args:
        folder: Folder of the segments.
        kind: Kind of log.
        max_bytes: Maximum size of all segments and their files together; the oldest closed ones are removed.
        max_age: Maximum age of a segment.
        segment_bytes: Size for which room is kept free.
        is_done: Function that returns whether a closed segment may be removed for its age. Others are removed last,
            and only for their size.
        on_lost: Called with the number of records of a segment that was removed before it was done.
    """

    def __init__(
        self,
        folder: Path,
        kind: LogKind,
        *,
        max_bytes: int,
        max_age: timedelta,
        segment_bytes: int,
        is_done: Callable[[Path], bool],
        on_lost: Callable[[int], None],
    ) -> None:
        self._folder = folder
        self._kind = kind
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._segment_bytes = segment_bytes
        self._is_done = is_done
        self._on_lost = on_lost

    def tidy(self) -> None:
        """Make room, close abandoned segments, and make room again.

        Raises:
            OSError: The folder cannot be read or written. Nothing is lost.
        """
        self._prune()
        for path in self._segments():
            if path.suffix == ".jsonl":
                close_segment(path, self._kind.schema())
        self._prune()

    def _segments(self) -> list[Path]:
        """Return the segments, oldest first."""
        return sorted(path for path in self._folder.iterdir() if SEGMENT.fullmatch(path.name))

    def _prune(self) -> None:
        """Remove closed segments that are too old, and the oldest until there is room for another open segment."""
        segments = self._segments()
        sizes = {path: segment_size(path) + self._files_size(path) for path in segments}
        closed = [path for path in segments if path.suffix == ".parquet"]
        total = sum(sizes.values()) + self._segment_bytes
        oldest = datetime.now(UTC) - self._max_age - timedelta(seconds=SEGMENT_SECONDS)
        done = {path for path in closed if self._is_done(path)}
        for path in sorted(closed, key=lambda path: path not in done):
            if total > self._max_bytes or (path in done and segment_begin(path.name) < oldest):
                total -= sizes[path]
                if path not in done:
                    self._on_lost(segment_rows(path))
                path.unlink(missing_ok=True)  # another process may have been faster
        for suffix in (MARK, CONSUMED):
            for mark in self._folder.glob(f"*{suffix}"):
                if not mark.with_suffix(".parquet").exists():
                    mark.unlink(missing_ok=True)
        if self._kind.has_files:
            for files in self._folder.glob(f"*{FILES}"):
                # In this order: remove the lines only after the closed segment exists.
                if not files.with_suffix(".jsonl").exists() and not files.with_suffix(".parquet").exists():
                    shutil.rmtree(files, ignore_errors=True)

    def _files_size(self, segment: Path) -> int:
        if not self._kind.has_files:
            return 0
        with contextlib.suppress(FileNotFoundError):
            return sum(segment_size(path) for path in segment.with_suffix(FILES).iterdir())
        return 0


def unwritable(folder: Path, error: OSError) -> str:
    """Return why a log cannot be written, and the fix, in one line."""
    fix = "free some space" if error.errno in FULL else "choose another folder, or make this one writable"
    return f"{folder}: cannot be written ({describe_os_error(error)}); {fix}"
