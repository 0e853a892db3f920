"""Test the exit codes of commands, and how signals end them."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

COMMAND = """
import signal, sys
from launch.terminal import exit_code

def work():
    try:
        signal.raise_signal(int(sys.argv[1]))
    finally:
        print("cleaned up")

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background of a shell
before = signal.getsignal(signal.SIGTERM)
code = exit_code(work)
assert signal.getsignal(signal.SIGTERM) is before
sys.exit(code)
"""


# A separate process, because an unhandled signal would end the test worker.
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_as_an_interrupt_does(sent: signal.Signals):
    command = [sys.executable, "-c", COMMAND, str(int(sent))]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 130, ended.stderr
    assert ended.stdout == "cleaned up\n"
    assert ended.stderr == "interrupted; run the same command to resume\n"
