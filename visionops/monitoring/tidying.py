"""Keeps the segments of a log in order: what was left open is closed, and what is too old or too much goes."""

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
"""What the system says where a disk, or a quota, is full."""
CONSUMED = ".consumed"
"""Suffix of the file beside a closed segment that names, a line each, the models whose records a reader has taken."""


class Tidier:
    """Tidies a folder. Any number of processes may do so at once.

    Args:
        folder: Of the segments.
        kind: Which log.
        max_bytes: Of all segments and their files together; the oldest closed ones go.
        max_age: Of a segment.
        segment_bytes: For which room is left.
        is_done: Whether a closed segment may go for its age. What is not done goes last, and only for its size.
        on_lost: Called with the number of records of a segment that went before it was done.
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
        """Make room, close what no process holds open any more, and make room again.

        Raises:
            OSError: The folder cannot be read or written. Nothing is lost.
        """
        self._prune()
        for path in self._segments():
            if path.suffix == ".jsonl":
                close_segment(path, self._kind.schema())
        self._prune()

    def _segments(self) -> list[Path]:
        """The oldest first."""
        return sorted(path for path in self._folder.iterdir() if SEGMENT.fullmatch(path.name))

    def _prune(self) -> None:
        """Remove the oldest closed segments: what is too old, and what leaves no room for one more open segment."""
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
                # In this order: the lines go once the closed segment is there.
                if not files.with_suffix(".jsonl").exists() and not files.with_suffix(".parquet").exists():
                    shutil.rmtree(files, ignore_errors=True)

    def _files_size(self, segment: Path) -> int:
        if not self._kind.has_files:
            return 0
        with contextlib.suppress(FileNotFoundError):
            return sum(segment_size(path) for path in segment.with_suffix(FILES).iterdir())
        return 0


def unwritable(folder: Path, error: OSError) -> str:
    """Return what keeps a log from being written, and the fix, in one line."""
    fix = "free some space" if error.errno in FULL else "choose another folder, or make this one writable"
    return f"{folder}: cannot be written ({describe_os_error(error)}); {fix}"
