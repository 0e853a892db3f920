"""A parser of command lines that suggests the nearest name for what it does not know."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from visionops.suggestions import nearest_names

__all__ = ["Parser", "one_of"]


class Parser(argparse.ArgumentParser):
    """Refuses what it does not know in one line, with the nearest flag that there is."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """Parse a command line.

        Raises:
            SystemExit: It cannot be used, with code 2 and one line on stderr.
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

    def error(self, message: str) -> NoReturn:
        """End with code 2 and one line; `argparse` puts the usage before it, in which the line is overlooked."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def one_of(names: Iterable[str]) -> Callable[[str], str]:
    """Return a ``type`` for `argparse` that takes some names, and suggests the nearest for any other."""
    known = [str(name) for name in names]

    def name(given: str) -> str:
        if given in known:
            return given
        near = "".join(f"did you mean {found!r}? " for found in nearest_names(given, known))
        raise argparse.ArgumentTypeError(f"invalid choice: {given!r}; {near}choose from {', '.join(known)}")

    return name
