"""Run the user's own DVC: find a folder's repository, run a command in it, and shorten its messages to one line."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from visionops.data.files import describe_os_error
from visionops.errors import DataError

__all__ = ["dvc_reason", "find_repository", "run_dvc"]


def find_repository(path: Path) -> Path | None:
    """Return the DVC repository that contains a path, which need not exist; None if there is none.

    Args:
        path: An absolute path.
    """
    return next((folder for folder in path.parents if (folder / ".dvc").is_dir()), None)


def run_dvc(repository: Path, *arguments: str, needed_by: str = "data.source") -> subprocess.CompletedProcess[str]:
    """Run a DVC command in a repository.

    Args:
        needed_by: Setting or flag that needs DVC, for messages.

    Raises:
        DataError: DVC is not installed, or cannot be run.
    """
    beside = Path(sys.executable).with_name("dvc")
    program = shutil.which("dvc") or (str(beside) if beside.is_file() else None)
    if program is None:
        raise DataError(f"{needed_by}: DVC is not installed; pip install 'dvc[s3]'")
    try:
        return subprocess.run(  # noqa: S603 - no shell; the program is DVC
            [program, *arguments], cwd=repository, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise DataError(f"{program}: cannot be run ({describe_os_error(error)}); pip install 'dvc[s3]'") from error


def dvc_reason(stderr: str) -> str:
    """Return DVC's message as one line, from its last error on, without links."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip() and not line.startswith("<")]
    last = max((i for i, line in enumerate(lines) if line.startswith("ERROR")), default=0)
    words = " ".join(lines[last:]).removeprefix("ERROR: ").removeprefix("failed to pull data from the cloud - ")
    hint = next((line for line in lines if line.startswith("No remote")), "")
    return " ".join(part for part in (hint, words) if part)[:400] or "no reason reported"
