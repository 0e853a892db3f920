"""``python -m deploy.control.runs.child FOLDER COMMAND…``: the process that stands between the service and a run.

It outlives the service, and its folder says all that a service needs that comes later:

    lock       held by this process and by the run, as long as one of them lives
    started    process id and time; made once, so that a run that is started twice runs once
    log        what the run prints
    exit       how it ended

Nothing but the standard library is imported: this process waits for hours.
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

__all__ = ["main"]

_ATTEMPTS = 20


def main(arguments: Sequence[str]) -> int:
    """Run a command once, to its end."""
    folder, command = Path(arguments[0]), list(arguments[1:])
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    if not _take(lock):
        return 0  # another child of the same run was faster
    try:
        with (folder / "started").open("x", encoding="utf-8") as file:
            json.dump({"pid": os.getpid(), "at": time.time()}, file)
    except FileExistsError:
        return 0
    # A signal to the group is for the run: this process stays to write down how it ended.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with (folder / "log").open("ab") as log:
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
            log.write(f"error: {command[0]}: cannot be started ({error.strerror})\n".encode())
            code = 127
        else:
            code = process.wait()
    _write(folder / "exit", str(code))
    return 0


def _take(lock: int) -> bool:
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.05)  # a service that looks whether it is held has it for a moment
    return False


def _restore_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all, and durably."""
    draft = path.with_suffix(".draft")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    with contextlib.suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
