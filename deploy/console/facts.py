"""What ZenML and MLflow know, asked of a process of its own that keeps them loaded: they stay out of this one."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from visionops.errors import one_line
from visionops.review.errors import Unavailable

__all__ = ["Facts"]

_FRESH_SECONDS = 30.0
_PATIENCE_SECONDS = 120.0


class Facts:
    """Answers of ``python -m launch.facts``, each kept for half a minute. Safe to call from several threads.

    Args:
        root: Working folder, where ``python -m`` finds the code.
        stack: Stack that is asked; the active one when None.
    """

    def __init__(self, root: Path, stack: str | None) -> None:
        self._root = root
        self._stack = stack
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
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
        watch = threading.Timer(_PATIENCE_SECONDS, process.kill)
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
        if "error" in answer:
            raise Unavailable(one_line(answer["error"]))
        return answer["result"]

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-m", "launch.facts", *(["--stack", self._stack] if self._stack else [])]
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
