"""What trackers do alike with files and values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["OWN", "is_page", "is_picture", "plain"]

OWN = "visionops"
"""Key of a run's config below which stands what is no parameter, where a tracker has no other place for it."""

_PICTURES = {".png", ".jpg", ".jpeg"}


def is_picture(path: Path) -> bool:
    """Return whether trackers show this file as a picture."""
    return path.suffix.lower() in _PICTURES


def is_page(path: Path) -> bool:
    """Return whether trackers show this file as an HTML page."""
    return path.suffix.lower() == ".html"


def plain(value: Any) -> Any:
    """Return a parameter as JSON has it: a number, a switch, text or null; what is none of these as its text."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
