"""What ZenML and MLflow know, asked of a process of its own that keeps them loaded: they stay out of this one."""

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
"""For the first answer of a process: on a machine under load, loading ZenML and MLflow alone takes minutes."""


class Facts:
    """Answers of ``python -m launch.facts``, each kept for half a minute. Safe to call from several threads.

    Args:
        root: Working folder, where ``python -m`` finds the code.
        stack: Stack that is asked; the active one when None.
    """

    PROGRAM: ClassVar[tuple[str, ...]] = ("-m", "launch.facts")
    """What answers, as Python starts it."""

    def __init__(self, root: Path, stack: str | None) -> None:
        self._root = root
        self._stack = stack
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._has_answered = False
        self._known: dict[str, tuple[float, Any]] = {}

    def get(self, fact: str, *, fresh: bool = False, **arguments: Any) -> Any:
        """Return a fact, as `launch.facts` names them; see there for its arguments and its form.

        Args:
            fresh: Ask again although the last answer is recent.

        Raises:
            Unavailable: ZenML, MLflow or a store does not answer; the message says which.
        """
        question = json.dumps({"fact": fact, "arguments": arguments}, sort_keys=True)
        with self._lock:  # who asks the same meanwhile gets the same answer
            known = self._known.get(question)
            if known and not fresh and time.monotonic() - known[0] < _FRESH_SECONDS:
                return known[1]
            answer = self._ask(question)
            self._known[question] = time.monotonic(), answer
            return answer

    def recent(self, fact: str) -> Any:
        """Return the last answer to a question on a fact, however old; None where nobody has asked."""
        known = tuple(self._known.items())  # a copy at once: another thread may add an answer
        found = [answered for question, answered in known if json.loads(question)["fact"] == fact]
        return max(found, key=lambda one: one[0])[1] if found else None

    def forget(self) -> None:
        """Ask again when the next page comes."""
        self._known.clear()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._stop()

    def _ask(self, question: str) -> Any:
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
                "ZenML: does not answer; standard error has why, and the next page tries again"
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
                raise Unavailable(f"ZenML: cannot be asked ({error.strerror})") from error
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
