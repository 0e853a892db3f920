"""How much room the prediction log has."""

from __future__ import annotations

import contextlib
import shutil
import threading
from pathlib import Path

__all__ = ["DiskSpace"]


class DiskSpace:
    """Room on the disk of a folder, asked for in a thread of its own: on a disk that hangs, so does the question.

    Args:
        folder: It, or the nearest folder above it that is there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._found: tuple[int, int] | None = None
        self._thread = threading.Thread()
        self.look()

    def look(self) -> tuple[int, int] | None:
        """Bytes that are free to us and bytes in all, as of the look before; None while there was none.

        Called from one thread at a time.
        """
        if not self._thread.is_alive():
            self._thread = threading.Thread(target=self._ask, name="disk-space", daemon=True)
            self._thread.start()
        return self._found

    def _ask(self) -> None:
        with contextlib.suppress(OSError):
            nearest = next(path for path in (self._folder, *self._folder.parents) if path.exists())
            usage = shutil.disk_usage(nearest)
            self._found = usage.free, usage.total
