"""Report a mistake in a configuration file, with its place, in one line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ValidationError

from visionops.schema import Key, describe_problem, first_error

__all__ = ["explain"]


def explain(error: ValidationError, places: Mapping[Key, str], path: Path, schema: type[BaseModel]) -> str:
    """Return one line for the first mistake, and the number of further ones.

    Args:
        places: Maps a key to the line of the file, or the override, that sets it.
        path: Path to show if the place is unknown.
        schema: The validated model.
    """
    problem = describe_problem(first_error(error), schema)
    lines = {".".join(known): line for known, line in places.items()}  # a key of tuning.space contains dots
    keys = (".".join(problem.key[:n]) for n in range(len(problem.key), 0, -1))
    place = next((lines[key] for key in keys if key in lines), f"{path}:1")
    # Of a union, pydantic has an error for each alternative.
    more = len({describe_problem(found, schema).key for found in error.errors()} - {problem.key})
    return f"{place}: {problem.text}" + (f" (and {more} more)" if more else "")
