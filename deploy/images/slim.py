"""``python slim.py unused.txt``: remove files from this interpreter's packages by the globs in the file, one per line.

A glob that matches nothing is an error: otherwise the image would grow unnoticed when a package changes its layout.
"""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

__all__ = ["slim"]


def slim(packages: Path, globs: str) -> None:
    """Remove the files in ``packages`` that match ``globs``; lines that begin with # are comments.

    Raises:
        ValueError: A glob matches nothing.
    """
    for line in globs.splitlines():
        if not line or line.startswith("#"):
            continue
        found = sorted(packages.glob(line), reverse=True)  # the content of a folder before the folder
        if not found:
            raise ValueError(f"{line} matches nothing in {packages}; fix or remove the line")
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
