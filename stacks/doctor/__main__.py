"""Provide the command line of the doctor."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from stacks.spec import known_stacks
from stacks.zenml_server import ignore_empty_store
from visionops.errors import VisionOpsError

__all__ = ["diagnose_and_print", "main"]

_DESCRIPTION = """\
Check each component of a stack from this machine, and say how to fix what is broken.

It reads the stack file and the environment, so it also works before `python -m stacks.apply`. To test write access,
it writes one small object visionops-doctor-… to each bucket and deletes it; it changes nothing else.
"""
_EPILOG = """\
state: ok; warning (works now, but may fail later or for some users); broken (a run would fail)
exit:  0 when nothing is broken, else 2
piped: one line for each finding, for example `python -m stacks.doctor staging | grep ^broken`

examples:
  python -m stacks.doctor              the active stack, or local
  python -m stacks.doctor kubernetes   before or after it is applied
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a diagnosis.

    Returns:
        2 where something is broken, or after a user error, which is printed in one line.
    """
    parser = argparse.ArgumentParser(
        prog="python -m stacks.doctor",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ", ".join(known_stacks())
    parser.add_argument("name", nargs="?", help=f"{names}, or another stack in ZenML (default: the active one)")
    return diagnose_and_print(parser.parse_args(arguments).name)


def diagnose_and_print(name: str | None) -> int:
    """Print a diagnosis of a stack, by default of the active one.

    Returns:
        2 where something is broken, or after a user error, which is printed in one line.
    """
    os.environ.setdefault("ZENML_LOGGING_VERBOSITY", "ERROR")  # the table already reports ZenML's problems
    ignore_empty_store()
    from stacks.doctor.diagnosis import diagnose
    from stacks.doctor.findings import State
    from stacks.doctor.report import print_diagnosis

    try:
        diagnosis = diagnose(name)
    except VisionOpsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print_diagnosis(diagnosis)
    return 2 if diagnosis.count(State.BROKEN) else 0


if __name__ == "__main__":
    sys.exit(main())
