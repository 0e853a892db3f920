"""The base of every section of a configuration. Imports nothing else of ours."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Raw", "Settings"]


class Settings(BaseModel):
    """A section of a configuration: frozen, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


Raw = str | int | float | bool
"""A value as a table holds it. Compared as text, and as number where both are one: 1, "1" and 1.0 are the same."""
