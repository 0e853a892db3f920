"""``python -m deploy.control.runs.child FOLDER COMMAND…``: start a run, wait for it, and store how it ended.

This process is the parent of the run and outlives the service. A service that starts later reads everything from its
folder:

    lock         held by this process and by the run, as long as one of them is running
    log          output of the run
    exit.draft   disk space reserved for `exit`, so that it can be written to a full disk
    started      process id and time; created once, so that a run that is started twice runs once
    exit         exit code of the run

If the run cannot be started, this process writes no ``started`` and exits with `REFUSED` plus the errno.

It imports only the standard library, to use little memory while it waits for hours.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

__all__ = ["REFUSED", "main"]

REFUSED = 100
"""Base of our exit codes, above those of Python itself."""

_ATTEMPTS = 20
_DRAFT = "exit.draft"
_SPACE = " " * 8
"""Bytes that are enough for any exit code."""


def main(arguments: Sequence[str]) -> int:
    """Run a command once, and wait until it ends.

    Returns:
        0, or `REFUSED` plus the errno if the command cannot be started.
    """
    folder, command = Path(arguments[0]), list(arguments[1:])
    try:
        lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        if not _take(lock) or (folder / "started").exists():
            return 0  # another child of the same run was faster
        log = (folder / "log").open("ab")
        _write(folder / _DRAFT, _SPACE)
        _write_new(folder / "started", json.dumps({"pid": os.getpid(), "at": time.time()}))
    except FileExistsError:
        return 0  # cancelled in the meantime
    except OSError as error:
        return REFUSED + (error.errno or 0)
    # A signal to the process group is for the run; this process must survive to store the exit code.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with log:
        try:
            process = subprocess.Popen(  # noqa: S603 - the service made the command
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock],
                preexec_fn=_restore_signals,  # noqa: PLW1509 - one thread
            )
        except OSError as error:
            with contextlib.suppress(OSError):
                os.write(log.fileno(), f"error: {command[0]}: cannot be started ({error.strerror})\n".encode())
            code = 127
        else:
            code = process.wait()
    _write(folder / _DRAFT, f"{code:<{len(_SPACE)}}")
    (folder / _DRAFT).replace(folder / "exit")
    with contextlib.suppress(OSError):
        _flush(folder)
    return 0


def _take(lock: int) -> bool:
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.05)  # a service that checks the lock holds it for a moment
    return False


def _restore_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _write(path: Path, text: str) -> None:
    """Overwrite the content in place, durably, so that no new disk space is needed."""
    file = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        os.pwrite(file, text.encode(), 0)
        os.fsync(file)
    finally:
        os.close(file)


def _write_new(path: Path, text: str) -> None:
    """Create and write a new file; remove it if it cannot be written."""
    file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        os.write(file, text.encode())
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(file)


def _flush(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
