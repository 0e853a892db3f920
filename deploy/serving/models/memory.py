"""Limit the memory of the process, and estimate the memory of a model before it is loaded."""

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

__all__ = ["MemoryLimit", "Reclaimer", "resident_bytes", "return_freed_memory", "share_arenas"]

_PER_GRAPH_BYTE = 5
"""Loaded bytes per byte of the graph's file. This and the next constant were measured on YOLOv8n at 320 and 640 pixels,
with OpenVINO and ONNX Runtime, one copy of the graph for a single image and one for several: 75 and 117 MB."""
_PER_PIXEL = 140
_MB = 1_000_000
_PAUSE_SECONDS = 0.25
_M_ARENA_MAX = -8
"""Number of this parameter in glibc's malloc.h."""
_ARENAS_PER_CORE = 4
"""Half of glibc's own limit. With fewer, requests were up to 2 % slower (decision 7)."""


class MemoryLimit:
    """Limit of the resident memory of the process.

    Args:
        megabytes: Limit in units of 1,000,000 bytes; 0 for no limit.
    """

    def __init__(self, megabytes: int) -> None:
        self._most = megabytes * _MB

    def check_before(self, bundle: ModelBundle, who: str) -> None:
        """Refuse a model that would exceed the limit, before it is loaded.

        Raises:
            MemoryCap: The estimate by the sizes of graph and input exceeds the limit.
        """
        needs = 2 * _copy_bytes(bundle)
        self._refuse(resident_bytes() + needs, f"{who}: needs about {needs / _MB:.0f} MB, so the process would use")

    def check_mode(self, bundle: ModelBundle, who: str) -> None:
        """Refuse an additional mode of a loaded model that would exceed the limit.

        Raises:
            MemoryCap: The estimate by the sizes of graph and input exceeds the limit.
        """
        needs = _copy_bytes(bundle)
        self._refuse(
            resident_bytes() + needs, f"{who}: another mode needs about {needs / _MB:.0f} MB, so the process would use"
        )

    def check_after(self, who: str) -> None:
        """Refuse a loaded model if the process exceeds the limit now.

        Raises:
            MemoryCap: The resident memory exceeds the limit.
        """
        self._refuse(resident_bytes(), f"{who}: after loading, the process uses")

    def _refuse(self, total: int, why: str) -> None:
        if self._most and total > self._most:
            raise MemoryCap(
                f"{why} {total / _MB:.0f} MB, more than its limit of {self._most / _MB:.0f} MB; "
                "unload a model, or raise max_memory_mb"
            )


def _copy_bytes(bundle: ModelBundle) -> int:
    """Return the bytes of one of the first two copies of a model's graph."""
    spec = bundle.card.preprocessing
    return (_PER_GRAPH_BYTE * bundle.model_path.stat().st_size + _PER_PIXEL * spec.width * spec.height) // 2


def resident_bytes() -> int:
    """Return the resident bytes of the process; 0 if the system does not report them."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


class Reclaimer:
    """Wait until the last request releases a replaced model, then return its memory to the system."""

    def __init__(self) -> None:
        self._leaving: weakref.WeakSet[Predictor] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._is_at_work = False
        self._closed = threading.Event()

    @property
    def waiting(self) -> int:
        """Number of replaced models that requests still hold."""
        return len(self._leaving)

    def reclaim(self, *predictors: Predictor) -> None:
        """Wait for these models in a separate thread; without any, only return freed memory."""
        with self._lock:
            for predictor in predictors:
                self._leaving.add(predictor)
            if self._is_at_work:
                return
            self._is_at_work = True
        threading.Thread(target=self._work, name="reclaim", daemon=True).start()

    def close(self) -> None:
        """Stop waiting."""
        self._closed.set()

    def _work(self) -> None:
        while not self._closed.wait(_PAUSE_SECONDS):
            # A cycle of futures keeps an answered request and its model alive until it is collected.
            gc.collect()
            with self._lock:
                if not self._leaving:
                    self._is_at_work = False
                    break
        return_freed_memory()


def share_arenas() -> None:
    """Let the threads of this process allocate from fewer arenas of the C library.

    By default each thread gets one, up to eight per core, and each arena keeps some freed memory. So a server grows
    with every model that other threads load. Call this before threads start.
    """
    _call_glibc("mallopt", _M_ARENA_MAX, _ARENAS_PER_CORE * (os.cpu_count() or 1))


def return_freed_memory() -> None:
    """Return freed memory to the system; the C library keeps it otherwise."""
    _call_glibc("malloc_trim", 0)


def _call_glibc(function: str, *arguments: int) -> None:
    try:
        getattr(ctypes.CDLL("libc.so.6"), function)(*arguments)
    except (OSError, AttributeError):  # the C library is not glibc
        return
