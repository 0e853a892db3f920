"""How a command ends: what its exit code says, and what a signal does."""

from __future__ import annotations

import signal

import pytest

from launch.terminal import exit_code


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_as_an_interrupt_does(sent: signal.Signals, capsys: pytest.CaptureFixture[str]):
    before = signal.getsignal(signal.SIGTERM)
    cleaned = []

    def work() -> None:
        try:
            signal.raise_signal(sent)
        finally:
            cleaned.append(True)

    # Ignored where the tests run in the background of a shell.
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert exit_code(work) == 130
    finally:
        signal.signal(signal.SIGINT, interrupt)
    assert cleaned == [True]
    assert capsys.readouterr().err == "interrupted; the same command resumes\n"
    assert signal.getsignal(signal.SIGTERM) is before
