"""``python pick.py requirements.lock packages.txt``: print the pins and digests of the named packages.

An image lists package names only; all versions are in the lock file.
"""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["pick"]


def pick(lock: str, names: str) -> str:
    """Return the lines of ``lock`` for the packages in ``names``, which lists one per line.

    Raises:
        ValueError: The lock does not pin a package.
    """
    wanted, found = set(names.split()), set()
    lines, taken = [], False
    for line in lock.splitlines():
        if not line.startswith(" "):  # a pin; its digests follow, indented
            name = line.partition("==")[0]
            taken = name in wanted
            found |= {name} if taken else set()
        if taken:
            lines.append(line)
    if missing := sorted(wanted - found):
        raise ValueError(f"the lock does not pin {', '.join(missing)}; run make lock")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    texts = [Path(argument).read_text(encoding="utf-8") for argument in sys.argv[1:]]
    try:
        sys.stdout.write(pick(*texts))
    except ValueError as error:
        sys.exit(f"error: {sys.argv[2]}: {error}")
