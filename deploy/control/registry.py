"""List registered models in a separate process, so that this one does not import MLflow and ZenML."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from visionops.errors import one_line
from visionops.review.errors import Unavailable

__all__ = ["Models"]

_FRESH_SECONDS = 30.0
_PATIENCE_SECONDS = 120.0


class Models:
    """The registered models of the stack, cached for half a minute.

    Args:
        root: Working folder of the process, where ``python -m`` finds the code.
        stack: Stack of the registry; the active one when None.
    """

    def __init__(self, root: Path, stack: str | None) -> None:
        self._root = root
        self._stack = stack
        self._lock = threading.Lock()
        self._known: dict[str, Any] = {}
        self._read: tuple[float, tuple[str, ...]] | None = None

    def list(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Return the champion and the newest versions of each use case.

        Raises:
            Unavailable: The registry does not answer.
        """
        if not names:
            return {}
        with self._lock:  # concurrent callers wait for the same answer
            if self._read is None or time.monotonic() - self._read[0] > _FRESH_SECONDS or self._read[1] != names:
                self._known = self._query(names)
                self._read = time.monotonic(), names
            return self._known

    def last_trained(self, name: str, names: tuple[str, ...]) -> datetime | None:
        """Return when the newest version of a use case was trained, regardless of who started it; None without one.

        Args:
            names: As for `list`, with ``name`` among them.

        Raises:
            Unavailable: The registry does not answer.
        """
        versions = self.list(names).get(name, {}).get("versions", ())
        return max((datetime.fromisoformat(version["trained"]) for version in versions), default=None)

    def forget(self) -> None:
        """Discard the cached list, so that the next call reads it again."""
        self._read = None

    def _query(self, names: tuple[str, ...]) -> dict[str, Any]:
        command = [sys.executable, "-m", "launch.cli", "models", *(["--stack", self._stack] if self._stack else [])]
        try:
            done = subprocess.run(  # noqa: S603 - names are those of use-case files
                [*command, "--json", "--", *names],
                cwd=self._root,
                capture_output=True,
                text=True,
                check=False,
                timeout=_PATIENCE_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"model registry: does not answer ({type(error).__name__}); try again") from error
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines()
            reason = one_line(lines[-1].removeprefix("error: ")) if lines else f"exit code {done.returncode}"
            raise Unavailable(f"model registry: cannot be listed ({reason})")
        try:
            found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        except (IndexError, ValueError) as error:
            raise Unavailable("model registry: cannot be listed (the list is not JSON)") from error
        return found
