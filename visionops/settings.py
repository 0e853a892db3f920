"""Base class of all sections of a configuration. Imports no other module of the project."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Raw", "Settings"]


class Settings(BaseModel):
    """A section of a configuration: frozen, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


Raw = str | int | float | bool
"""A value in a table. Compared as text, and as a number if both are numbers: 1, "1" and 1.0 are equal."""
