"""Values of VIA's attributes: text, numbers, and the ticks of checkboxes."""

from __future__ import annotations

from typing import Any

from visionops.data.formats.shapes import printable

__all__ = ["has_value", "is_set", "is_text", "labels_of"]


def is_text(value: Any) -> bool:
    """Return whether a value is text other than blanks."""
    return isinstance(value, str) and bool(value.strip())


def is_set(value: Any) -> bool:
    """Return whether a value names a class."""
    return bool(labels_of(value))


def has_value(attributes: Any) -> bool:
    """Whether one of several attributes is set."""
    return isinstance(attributes, dict) and any(map(is_set, attributes.values()))


def labels_of(value: Any) -> list[str]:
    """The classes that the value of an attribute names: a text, a number, or the ticked ones of checkboxes."""
    if isinstance(value, dict):
        return [printable(name.strip()) for name, ticked in value.items() if ticked in (True, "true") and name.strip()]
    if type(value) is int:
        return [str(value)] if abs(value) < 1 << 63 else []
    return [printable(value.strip())] if is_text(value) else []
