"""The command line of a run: the service imports no orchestrator, the process that it starts does."""

from __future__ import annotations

import sys
from pathlib import Path

from visionops.runs.states import Kind, Run

__all__ = ["STOPS_ELSEWHERE", "command_of"]

STOPS_ELSEWHERE = {"VISIONOPS_INTERRUPT": "stop"}
"""Of a run: where its steps run on a cluster, the interrupt that cancels it stops them, too (`launch.interrupts`)."""


def command_of(run: Run, config: Path, stack: str | None) -> list[str]:
    """Return the command line of a run; each of them is one argument, never part of a shell's line."""
    wish = run.wish
    words = [sys.executable, "-m", "launch.cli"]
    match wish.kind:
        case Kind.RETRAIN:
            words += ["train"]
        case Kind.ROLLBACK:
            words += ["rollback"]
        case Kind.PROMOTE:
            words += ["promote", "--version", wish.version, f"--reason={wish.reason}", f"--as={run.actor}"]
            words += ["--override"] if wish.override else []
    return [*words, "--config", str(config), *(["--stack", stack] if stack else [])]
