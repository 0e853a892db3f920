"""Query ZenML and MLflow in a separate process that keeps them loaded, so that this one does not import them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

from visionops.errors import one_line
from visionops.review.errors import Unavailable

__all__ = ["Facts"]

_FRESH_SECONDS = 30.0
_PATIENCE_SECONDS = 120.0
_FIRST_SECONDS = 600.0
"""Seconds to wait for the first answer of the process: on a busy machine, loading ZenML and MLflow takes minutes."""


class Facts:
    """Answers of ``python -m launch.facts``, each cached for half a minute. Safe to call from several threads.

    Args:
        root: Working folder, where ``python -m`` finds the code.
        stack: Stack to query; the active one when None.
    """

    PROGRAM: ClassVar[tuple[str, ...]] = ("-m", "launch.facts")
    """Arguments for Python that start the process."""

    def __init__(self, root: Path, stack: str | None) -> None:
        self._root = root
        self._stack = stack
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._has_answered = False
        self._known: dict[str, tuple[float, Any]] = {}

    def get(self, fact: str, *, fresh: bool = False, **arguments: Any) -> Any:
        """Return a fact; `launch.facts` lists their names, arguments and formats.

        Args:
            fresh: Query again although the last answer is recent.

        Raises:
            Unavailable: ZenML, MLflow or a store does not answer; the message says which.
        """
        question = json.dumps({"fact": fact, "arguments": arguments}, sort_keys=True)
        with self._lock:  # concurrent callers with the same query get the same answer
            known = self._known.get(question)
            if known and not fresh and time.monotonic() - known[0] < _FRESH_SECONDS:
                return known[1]
            answer = self._query(question)
            self._known[question] = time.monotonic(), answer
            return answer

    def recent(self, fact: str) -> Any:
        """Return the last cached answer for a fact, regardless of its age; None if there is none."""
        known = tuple(self._known.items())  # a copy, because another thread may add an answer
        found = [answered for question, answered in known if json.loads(question)["fact"] == fact]
        return max(found, key=lambda one: one[0])[1] if found else None

    def forget(self) -> None:
        """Discard the cached answers, so that the next page queries again."""
        self._known.clear()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._stop()

    def _query(self, question: str) -> Any:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        watch = threading.Timer(_PATIENCE_SECONDS if self._has_answered else _FIRST_SECONDS, process.kill)
        watch.start()
        try:
            process.stdin.write(question + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
        finally:
            watch.cancel()
        try:
            answer = json.loads(line)
        except ValueError as error:
            self._stop()
            raise Unavailable(
                "ZenML: does not answer; see standard error for the reason; the next page tries again"
            ) from error
        self._has_answered = True
        if "error" in answer:
            raise Unavailable(one_line(answer["error"]))
        return answer["result"]

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._has_answered = False
            command = [sys.executable, *self.PROGRAM, *(["--stack", self._stack] if self._stack else [])]
            try:
                self._process = subprocess.Popen(  # noqa: S603 - no word of it comes from a client
                    command, cwd=self._root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            except OSError as error:
                raise Unavailable(f"ZenML: cannot be queried ({error.strerror})") from error
        return self._process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for stream in (process.stdin, process.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()
        process.wait()
