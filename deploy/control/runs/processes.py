"""Run processes on this machine, each with its own folder and process group."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.control.runs.child import REFUSED
from deploy.control.runs.commands import STOPS_ELSEWHERE
from deploy.control.runs.launcher import RunObservation, Stage
from visionops.errors import StackError
from visionops.runs.states import Run

__all__ = ["ProcessLauncher"]

_ID = re.compile("[0-9a-f]{32}")
_MOST_SUMMARY = 2_000_000
_LEAST_FREE = 4096
_MODULE = "deploy.control.runs.child"


class ProcessLauncher:
    """Launcher for local processes. The folder of a run has its log, a lock while it is running, and its exit code.

    Args:
        folder: Folder of all runs; services on one machine that share it can take over each other's runs.
        root: Working folder of the runs, where ``python -m`` finds the code.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder = folder
        self._root = root
        self.place = socket.gethostname()
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, run: Run, command: list[str]) -> None:
        """See `Launcher`."""
        folder = self._of(run)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            wrapped = [sys.executable, "-m", _MODULE, str(folder), *command, "--summary", str(folder / "summary.json")]
            # Its own session, so that it outlives this process and does not receive its signals.
            child = subprocess.Popen(  # noqa: S603 - the words are ours
                wrapped,
                cwd=self._root,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, **STOPS_ELSEWHERE},
            )
        except OSError as error:
            raise StackError(self._refusal(error.strerror or type(error).__name__)) from error
        self._children[run.id] = child

    def observe(self, run: Run) -> RunObservation:
        """See `Launcher`."""
        folder = self._of(run)
        child = self._children.get(run.id)
        code = 0 if child is None else child.poll()
        if code is None:
            return RunObservation(Stage.ALIVE)  # or it is about to start
        self._children.pop(run.id, None)
        # The order matters: a run that has started and whose lock is free has ended.
        has_started = (folder / "started").exists()
        if self._is_held(folder):
            return RunObservation(Stage.ALIVE)
        if not has_started and code > 0:
            reason = os.strerror(code - REFUSED) if code > REFUSED else f"exit code {code}"
            return RunObservation(Stage.REFUSED, reason=self._refusal(reason))
        if not has_started:
            return RunObservation(Stage.WAITING)
        with contextlib.suppress(OSError, ValueError):
            ended = int((folder / "exit").read_text(encoding="utf-8"))
            return RunObservation(Stage.ENDED, ended, self._full_disk() if ended else "")
        return RunObservation(Stage.GONE, reason=self._full_disk())

    def stop(self, run: Run, *, hard: bool) -> None:
        """See `Launcher`."""
        folder = self._of(run)
        with contextlib.suppress(OSError, ValueError, KeyError):
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "started").exists():
                # A child that is about to start the run finds it started, and does nothing.
                (folder / "started").open("x").close()
                return
            if self._is_held(folder):
                # The lock is held, so the process id still belongs to the run and was not reused.
                group = int(json.loads((folder / "started").read_text(encoding="utf-8"))["pid"])
                os.killpg(group, signal.SIGKILL if hard else signal.SIGINT)

    def log_tail(self, run: Run, size: int) -> str:
        """See `Launcher`."""
        try:
            with (self._of(run) / "log").open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - size))
                return file.read(size).decode("utf-8", "replace")
        except OSError:
            return ""

    def summary(self, run: Run) -> Mapping[str, Any] | None:
        """See `Launcher`."""
        path = self._of(run) / "summary.json"
        try:
            if path.stat().st_size > _MOST_SUMMARY:
                return None
            found = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _refusal(self, reason: str) -> str:
        return f"{self._folder}: a run cannot be started there ({reason}); free some space, or set --runs"

    def _full_disk(self) -> str:
        with contextlib.suppress(OSError):
            if shutil.disk_usage(self._folder).free < _LEAST_FREE:
                return f"the disk of {self._folder} is full"
        return ""

    def _of(self, run: Run) -> Path:
        assert _ID.fullmatch(run.id)
        return self._folder / run.id

    @staticmethod
    def _is_held(folder: Path) -> bool:
        try:
            lock = os.open(folder / "lock", os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(lock)
