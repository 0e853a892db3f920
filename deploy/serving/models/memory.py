"""How much memory the process has, and how much a model will take."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import weakref
from pathlib import Path

from deploy.serving.errors import MemoryCap
from visionops.inference.bundle import ModelBundle
from visionops.inference.predictor import Predictor

__all__ = ["MemoryLimit", "Reclaimer", "resident_bytes"]

_PER_GRAPH_BYTE = 5
"""Loaded bytes for each byte of the graph's file. With the next one measured on YOLOv8n at 320 and 640 pixels,
OpenVINO and ONNX Runtime, one copy of the graph for an image alone and one for several: 75 and 117 MB."""
_PER_PIXEL = 140
_MB = 1_000_000
_PAUSE_SECONDS = 0.25


class MemoryLimit:
    """The most that the process may have resident.

    Args:
        megabytes: Of 1,000,000 bytes; 0: no limit.
    """

    def __init__(self, megabytes: int) -> None:
        self._most = megabytes * _MB

    def check_before(self, bundle: ModelBundle, who: str) -> None:
        """Refuse a model for which there is no room, before it takes any.

        Raises:
            MemoryCap: By the size of its graph and its input.
        """
        needs = 2 * _copy_bytes(bundle)
        self._refuse(resident_bytes() + needs, f"{who}: needs about {needs / _MB:.0f} MB, which would make")

    def check_mode(self, bundle: ModelBundle, who: str) -> None:
        """Refuse one more mode of a loaded model for which there is no room.

        Raises:
            MemoryCap: By the size of its graph and its input.
        """
        needs = _copy_bytes(bundle)
        self._refuse(
            resident_bytes() + needs, f"{who}: one more mode needs about {needs / _MB:.0f} MB, which would make"
        )

    def check_after(self, who: str) -> None:
        """Refuse a model that took more than it should have.

        Raises:
            MemoryCap: By what is resident now.
        """
        self._refuse(resident_bytes(), f"{who}: once loaded, there are")

    def _refuse(self, total: int, why: str) -> None:
        if self._most and total > self._most:
            raise MemoryCap(
                f"{why} {total / _MB:.0f} MB in this process, over its limit of {self._most / _MB:.0f} MB; "
                "unload a model, or raise max_memory_mb"
            )


def _copy_bytes(bundle: ModelBundle) -> int:
    """Return the bytes that one of a model's two first copies of the graph takes."""
    spec = bundle.card.preprocessing
    return (_PER_GRAPH_BYTE * bundle.model_path.stat().st_size + _PER_PIXEL * spec.width * spec.height) // 2


def resident_bytes() -> int:
    """What the process has in memory now; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


class Reclaimer:
    """Waits for replaced models to be let go by the last request that holds them, and gives their memory back."""

    def __init__(self) -> None:
        self._leaving: weakref.WeakSet[Predictor] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._is_at_work = False
        self._closed = threading.Event()

    @property
    def waiting(self) -> int:
        """Replaced models that are still held."""
        return len(self._leaving)

    def reclaim(self, *predictors: Predictor) -> None:
        """Begin to wait; without any, only give freed memory back. On a thread of its own: nobody is held up."""
        with self._lock:
            for predictor in predictors:
                self._leaving.add(predictor)
            if self._is_at_work:
                return
            self._is_at_work = True
        threading.Thread(target=self._work, name="reclaim", daemon=True).start()

    def close(self) -> None:
        """Wait no longer."""
        self._closed.set()

    def _work(self) -> None:
        while not self._closed.wait(_PAUSE_SECONDS):
            # An answered request lives on in a cycle of futures, and its model with it, until this.
            gc.collect()
            with self._lock:
                if not self._leaving:
                    self._is_at_work = False
                    break
        _trim()


def _trim() -> None:
    # The C library would keep it: after ONNX Runtime, more with every model.
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another C library than glibc
        return
