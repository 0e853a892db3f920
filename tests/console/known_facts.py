"""``python -m tests.console.known_facts FILE …``: run a console with answers from a file instead of ZenML.

A query of ZenML takes seconds and needs a trained model; `tests/integration` tests the real facts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import deploy.console.__main__ as console


class KnownFacts:
    """Answers of a JSON file by the name of the fact, with or without its arguments."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def get(self, fact: str, *, fresh: bool = False, **arguments: Any) -> Any:
        known = json.loads(self._file.read_text(encoding="utf-8"))
        return known.get(f"{fact} {' '.join(str(value) for value in arguments.values())}".strip(), known.get(fact))

    def recent(self, fact: str) -> Any:
        return None

    def forget(self) -> None:
        pass

    def close(self) -> None:
        pass


if __name__ == "__main__":
    file = Path(sys.argv[1])
    console.Facts = lambda *_: KnownFacts(file)  # type: ignore[assignment, misc]
    sys.exit(console.main(sys.argv[2:]))
