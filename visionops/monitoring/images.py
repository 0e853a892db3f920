"""Store a sample of the predicted images as files beside their records, for labelling when traffic changes.

    <log>/images/2026-03-02/061409123456-part-17.jpg      the bytes as they came, by the time (UTC) and the request

A separate thread with a short queue writes them, so predictions neither wait for a file nor fail because of one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import queue
import re
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from visionops.data.files import describe_os_error

__all__ = ["IMAGE_OUTCOMES", "UNSHIPPED", "ImageSamples", "is_sampled"]

IMAGE_OUTCOMES = ("written", "overflow", "disk_full", "unwritable", "closed", "unshipped")
"""Outcomes of a sampled image: written, or dropped because too many waited, the disk was full or nearly so, the folder
could not be written, or the log was closed. Unshipped: the store has its record without it, because it was not written,
or was removed before the segment of its record was closed."""

UNSHIPPED = "unshipped"
"""The store has the record without its image."""

_FOLDER = "images"
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_LONGEST_ID = 80
_MAGIC = {
    b"\xff\xd8": "jpg",
    b"\x89PNG": "png",
    b"BM": "bmp",
    b"II": "tif",
    b"MM": "tif",
    b"RIFF": "webp",
    b"GIF8": "gif",
}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_RESERVE = 64_000_000
"""Free bytes of the disk that are reserved for the records, which are more important."""
_TIDY_SECONDS = 3600.0
_CLOSING_SECONDS = 10.0


def is_sampled(request_id: str, share: float) -> bool:
    """Return whether the image of this request is sampled, always the same for the same id."""
    digest = hashlib.blake2b(request_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest) < share * 2**64


class _Waiting(NamedTuple):
    """An image that waits to be written."""

    name: str
    data: bytes


class _File(NamedTuple):
    """A stored file."""

    day: str
    name: str
    size: int


class ImageSamples:
    """Writer of one process's sampled images. Safe to use from several threads; raises nothing.

    Args:
        log: Folder of the prediction log.
        share: Share of the requests, by the hash of their id.
        max_bytes: Maximum size of all images together; the oldest are removed.
        max_age_days: Maximum age of an image.
        capacity: Maximum bytes that wait to be written; more are dropped.
        on_outcome: Called with each outcome, from several threads.
    """

    def __init__(
        self,
        log: Path,
        share: float,
        *,
        max_bytes: int = 1_000_000_000,
        max_age_days: float = 30,
        capacity: int = 64_000_000,
        on_outcome: Callable[[str], None] = lambda _outcome: None,
    ) -> None:
        self.problem = ""
        """Current problem in one line; "" where there is none."""
        self._log = log
        self._share = share
        self._max_bytes = max_bytes
        self._max_age = timedelta(days=max_age_days)
        self._capacity = capacity
        self._on_outcome = on_outcome
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting_bytes = 0
        self._is_closed = False
        self._room = 0  # bytes that may be written before the next check of the total
        self._writer = threading.Thread(target=self._write_all, name="prediction-images", daemon=True)
        self._writer.start()

    def wants(self, request_id: str) -> bool:
        """Return whether to store the image of this request."""
        return is_sampled(request_id, self._share)

    def keep(self, data: bytes, request_id: str, when: datetime) -> str | None:
        """Queue an image to be written.

        Args:
            data: The encoded file, unchanged.
            when: Time of its record; aware.

        Returns:
            Its future path, below the folder of the log; None where too many wait. If the process is killed, the last
            ones stay unwritten.
        """
        with self._lock:
            refusal = "closed" if self._is_closed else ""
            if not refusal and self._waiting_bytes + len(data) > self._capacity:
                refusal = "overflow"
            if not refusal:
                self._waiting_bytes += len(data)
        if refusal:
            self._on_outcome(refusal)
            return None
        name = _name(data, request_id, when)
        self._queue.put(_Waiting(name, data))
        return name

    def close(self) -> None:
        """Write all waiting images, with limited waiting for a disk that hangs."""
        with self._lock:
            self._is_closed = True
        self._queue.put(None)
        self._writer.join(_CLOSING_SECONDS)

    # The writer's thread

    def _write_all(self) -> None:
        for item in self._items():
            outcome = "written"
            try:
                if item is None or len(item.data) > self._room:
                    self._prune(len(item.data) if item else 0)
                if item:
                    self._write(item)
                self.problem = ""
            except OSError as error:
                outcome = "disk_full" if error.errno in _FULL else "unwritable"
                fix = "free some space" if outcome == "disk_full" else "make it writable"
                self.problem = f"{self._log / _FOLDER}: images cannot be kept ({describe_os_error(error)}); {fix}"
            if item:
                with self._lock:
                    self._waiting_bytes -= len(item.data)
                self._on_outcome(outcome)

    def _items(self) -> Iterator[_Waiting | None]:
        """Yield images to write; None when it is time to tidy up."""
        yield None
        while True:
            try:
                item = self._queue.get(timeout=_TIDY_SECONDS)
            except queue.Empty:
                yield None
                continue
            if item is None:
                return
            yield item

    def _write(self, item: _Waiting) -> None:
        """Write a file atomically."""
        target = self._log / item.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(target.parent).free < _RESERVE + len(item.data):
            raise OSError(errno.ENOSPC, "less than 64 MB would be left")
        draft = self._log / _FOLDER / f".{uuid.uuid4().hex}.part"
        try:
            draft.write_bytes(item.data)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
        self._room -= len(item.data)

    def _prune(self, coming: int) -> None:
        """Remove images that are too old, and the oldest above the limit; runs after each twentieth of it."""
        now = datetime.now(UTC)
        room = self._max_bytes // 20 + coming
        oldest = (now - self._max_age).date().isoformat()
        files = self._files()
        total = sum(file.size for file in files) + room
        for day, name, size in files:
            if total > self._max_bytes or day < oldest:
                (self._log / _FOLDER / day / name).unlink(missing_ok=True)  # another process may have been faster
                total -= size
        for day in {file.day for file in files} - {now.date().isoformat()}:
            with contextlib.suppress(OSError):
                (self._log / _FOLDER / day).rmdir()
        self._room = room

    def _files(self) -> list[_File]:
        """Return the files, oldest first."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(self._log / _FOLDER):
                if _DAY.fullmatch(entry.name):
                    found += [_File(entry.name, image.name, _size(image)) for image in os.scandir(entry.path)]
                elif entry.name.endswith(".part") and entry.stat().st_mtime < time.time() - _TIDY_SECONDS:
                    Path(entry.path).unlink(missing_ok=True)  # its writer was killed
        return sorted(found)


def _name(data: bytes, request_id: str, when: datetime) -> str:
    # The id comes from a client, so only letters, digits and ._- are kept. The time in front separates two requests
    # with the same id and keeps the names in order.
    safe = _UNSAFE.sub("_", request_id)[:_LONGEST_ID]
    suffix = next((suffix for magic, suffix in _MAGIC.items() if data.startswith(magic)), "bin")
    when = when.astimezone(UTC)
    return f"{_FOLDER}/{when:%Y-%m-%d}/{when:%H%M%S%f}-{safe}.{suffix}"


def _size(entry: os.DirEntry[str]) -> int:
    with contextlib.suppress(FileNotFoundError):
        return entry.stat().st_size
    return 0
