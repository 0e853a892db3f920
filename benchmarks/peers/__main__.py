"""Create an environment for each peer with uv: ``python -m benchmarks.peers [NAME ...]``.

Their pins conflict with ours and with each other. An environment is created again when its requirements change.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.contestants import PEERS, environment_folder

__all__ = ["main"]

_NAMES = tuple(PEERS)


def main(arguments: list[str] | None = None) -> int:
    """Create missing environments; return 1 if one failed, after creating the others."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"out of {', '.join(_NAMES)}; all when absent")
    names = parser.parse_args(arguments).names or list(_NAMES)
    if unknown := [name for name in names if name not in _NAMES]:
        parser.error(f"unknown peer {unknown[0]!r}; expected {', '.join(_NAMES)}")
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        parser.error("uv is missing; install it (pip install uv), or call make peers")
    return max(_make(uv, name) for name in names)


def _make(uv: str, name: str) -> int:
    wanted = Path(__file__).parent / name / "requirements.txt"
    everything = wanted.read_text() + (wanted.parents[1] / "requirements.txt").read_text()
    folder = environment_folder(name)
    stamp = folder / "requirements.txt"
    if stamp.is_file() and stamp.read_text() == everything:
        print(f"{name}: up to date")
        return 0
    print(f"{name}: installing into {folder}", flush=True)
    python = folder / "bin" / "python"
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
        [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), "-r", str(wanted)],
    ):
        if subprocess.run(command, check=False).returncode:
            print(f"{name}: not installed, see above", file=sys.stderr)
            return 1
    stamp.write_text(everything)
    return 0


if __name__ == "__main__":
    sys.exit(main())
