"""Build the command line of a run, so that only the started process imports the orchestrator."""

from __future__ import annotations

import sys
from pathlib import Path

from visionops.runs.states import Kind, Run

__all__ = ["STOPS_ELSEWHERE", "command_of"]

STOPS_ELSEWHERE = {"VISIONOPS_INTERRUPT": "stop"}
"""Environment of a run: the interrupt that cancels it also stops its steps on a cluster (`launch.interrupts`)."""


def command_of(run: Run, config: Path, stack: str | None) -> list[str]:
    """Return the command line of a run as a list of arguments, which no shell interprets."""
    run_request = run.request
    words = [sys.executable, "-m", "launch.cli"]
    match run_request.kind:
        case Kind.RETRAIN:
            words += ["train"]
        case Kind.ROLLBACK:
            words += ["rollback"]
        case Kind.PROMOTE:
            words += [
                "promote",
                "--version",
                run_request.version,
                f"--reason={run_request.reason}",
                f"--as={run.actor}",
            ]
            words += ["--override"] if run_request.override else []
    return [*words, "--config", str(config), *(["--stack", stack] if stack else [])]
