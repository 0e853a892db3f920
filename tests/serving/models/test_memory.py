"""The C library's memory is shared by all threads and returned."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from deploy.serving.models.memory import _ARENAS_PER_CORE
from tests.conftest import ROOT

PROGRAM = """
import ctypes, os, sys, threading
from deploy.serving.models.memory import share_arenas

if sys.argv[1] == "shared":
    share_arenas()
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype = ctypes.c_void_p
count = 12 * os.cpu_count()
together = threading.Barrier(count)

def allocate():
    together.wait()
    for _ in range(100):
        assert libc.malloc(5000)
    together.wait()

threads = [threading.Thread(target=allocate) for _ in range(count)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="arenas are glibc's")
def test_threads_share_few_arenas():
    shared, own = (
        subprocess.run(
            [sys.executable, "-c", PROGRAM, how], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
        ).stdout.count("<heap nr=")
        for how in ("shared", "own")
    )
    assert own > shared
    assert shared <= _ARENAS_PER_CORE * os.cpu_count()
