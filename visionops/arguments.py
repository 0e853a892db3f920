"""A parser of command lines that suggests the nearest name for what it does not know."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from visionops.suggestions import nearest_names

__all__ = ["Parser", "one_of"]


class Parser(argparse.ArgumentParser):
    """Refuses an unknown flag with the nearest one that there is."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """Parse a command line.

        Raises:
            SystemExit: It cannot be used, with code 2 and one line on stderr after the usage.
        """
        parsed, rest = self.parse_known_args(args, namespace)
        if rest:
            flags = [flag for action in self._actions for flag in action.option_strings]
            near = nearest_names(rest[0].partition("=")[0], flags) if rest[0].startswith("-") else []
            if rest[0].endswith((".yaml", ".yml")) and "--config" in flags:
                near = [f"--config {rest[0]}"]
            advice = f"did you mean {near[0]}?" if near else "--help lists what there is"
            self.error(f"unrecognized arguments: {' '.join(rest)}; {advice}")
        return parsed


def one_of(names: Iterable[str]) -> Callable[[str], str]:
    """Return a ``type`` for `argparse` that takes some names, and suggests the nearest for any other."""
    known = [str(name) for name in names]

    def name(given: str) -> str:
        if given in known:
            return given
        near = "".join(f"did you mean {found!r}? " for found in nearest_names(given, known))
        raise argparse.ArgumentTypeError(f"invalid choice: {given!r}; {near}choose from {', '.join(known)}")

    return name
