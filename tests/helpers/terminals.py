"""Run a command at its own terminal, where a person would read its output and press keys."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.helpers.programs import until

__all__ = ["CTRL_C", "ENTER", "Terminal", "terminal"]

CTRL_C, ENTER = "\x03", "\n"


class Terminal:
    """A running command; `terminal` starts one."""

    def __init__(self, process: subprocess.Popen[bytes], keys: int) -> None:
        self._process = process
        self._keys = keys
        self._seen = 0
        self.text = ""
        """All output so far."""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def press(self, keys: str) -> None:
        """Type text; Ctrl-C reaches the command as a signal from the kernel."""
        os.write(self._keys, keys.encode())

    def expect(self, pattern: str, seconds: float = 600.0) -> re.Match[str]:
        """Wait for a match of a pattern after the last match; fail with the output instead."""

        def look() -> re.Match[str] | None:
            found = re.compile(pattern).search(self.text, self._seen)
            assert found or self._reader.is_alive(), f"{pattern!r} was never printed: {self.text[-3000:]}"
            return found

        try:
            found = until(look, seconds)
        except AssertionError as error:
            error.add_note(self.text[-3000:])
            raise
        self._seen = found.end()
        return found

    def end(self, seconds: float = 300.0) -> int:
        """Wait for the end of the command; return its exit code."""
        code = self._process.wait(seconds)
        self._reader.join(10)
        return code

    def _read(self) -> None:
        try:
            while data := os.read(self._keys, 1 << 16):
                self.text += data.decode(errors="replace").replace("\r", "")
        except OSError:
            pass  # Linux raises this when the terminal has no open descriptors any more


@contextmanager
def terminal(command: Sequence[str], folder: Path, env: Mapping[str, str]) -> Iterator[Terminal]:
    """Start a command at a terminal of 200 columns without colours; it is killed at the end of the block."""
    keys, screen = pty.openpty()
    # `setsid --ctty` makes it the controlling terminal, without which the kernel sends no signal at Ctrl-C. `env`
    # restores the signal, which a shell's background jobs ignore.
    process = subprocess.Popen(
        ["setsid", "--ctty", "env", "--default-signal=INT", *command],
        cwd=folder,
        env={**env, "TERM": "dumb", "COLUMNS": "200"},
        stdin=screen,
        stdout=screen,
        stderr=screen,
    )
    os.close(screen)
    shown = Terminal(process, keys)
    try:
        yield shown
    finally:
        process.kill()
        process.wait(60)
        shown._reader.join(10)
        os.close(keys)
