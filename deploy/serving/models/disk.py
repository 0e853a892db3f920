"""Measure the free disk space of the prediction log."""

from __future__ import annotations

import contextlib
import shutil
import threading
from pathlib import Path

__all__ = ["DiskSpace"]


class DiskSpace:
    """Free space on the disk of a folder, measured in a separate thread, because the call hangs if the disk does.

    Args:
        folder: The folder; if it does not exist, the nearest existing parent is measured.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._found: tuple[int, int] | None = None
        self._thread = threading.Thread()
        self.look()

    def look(self) -> tuple[int, int] | None:
        """Start a measurement and return the previous one: free bytes and total bytes; None before the first.

        Must be called from one thread at a time.
        """
        if not self._thread.is_alive():
            self._thread = threading.Thread(target=self._measure, name="disk-space", daemon=True)
            self._thread.start()
        return self._found

    def _measure(self) -> None:
        with contextlib.suppress(OSError):
            nearest = next(path for path in (self._folder, *self._folder.parents) if path.exists())
            usage = shutil.disk_usage(nearest)
            self._found = usage.free, usage.total
