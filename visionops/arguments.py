"""A parser of command lines that suggests the nearest name for what it does not know."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import NoReturn

from visionops.suggestions import nearest_names

__all__ = ["Parser", "one_of"]

_UNKNOWN = "unrecognized arguments: "


class Parser(argparse.ArgumentParser):
    """Refuses what it does not know in one line, with the nearest flag that there is."""

    def error(self, message: str) -> NoReturn:
        """End with code 2 and one line; `argparse` puts the usage before it, in which the line is overlooked."""
        if message.startswith(_UNKNOWN):
            message = f"{message}; {self._advice(message.removeprefix(_UNKNOWN).partition(' ')[0])}"
        self.exit(2, f"{self.prog}: error: {message}\n")

    def _advice(self, unknown: str) -> str:
        flags = [flag for action in self._actions for flag in action.option_strings]
        if unknown.endswith((".yaml", ".yml")) and "--config" in flags:
            return f"did you mean --config {unknown}?"
        near = nearest_names(unknown.partition("=")[0], flags) if unknown.startswith("-") else []
        return f"did you mean {near[0]}?" if near else "--help lists what there is"


def one_of(names: Iterable[str]) -> Callable[[str], str]:
    """Return a ``type`` for `argparse` that takes some names, and suggests the nearest for any other."""
    known = [str(name) for name in names]

    def name(given: str) -> str:
        if given in known:
            return given
        near = "".join(f"did you mean {found!r}? " for found in nearest_names(given, known))
        raise argparse.ArgumentTypeError(f"invalid choice: {given!r}; {near}choose from {', '.join(known)}")

    return name
