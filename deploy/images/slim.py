"""``python slim.py unused.txt``: remove from this interpreter's packages what the file names, a glob a line.

A line that matches nothing is an error: a package with another layout would otherwise grow the image unseen.
"""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

__all__ = ["slim"]


def slim(packages: Path, globs: str) -> None:
    """Remove from the folder ``packages`` what the ``globs`` match; lines that begin with # are comments.

    Raises:
        ValueError: One of them matches nothing.
    """
    for line in globs.splitlines():
        if not line or line.startswith("#"):
            continue
        found = sorted(packages.glob(line), reverse=True)  # what is inside first
        if not found:
            raise ValueError(f"{line} matches nothing in {packages}; mend or remove the line")
        for path in found:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


if __name__ == "__main__":
    try:
        slim(Path(sysconfig.get_path("purelib")), Path(sys.argv[1]).read_text(encoding="utf-8"))
    except ValueError as error:
        sys.exit(f"error: {sys.argv[1]}: {error}")
