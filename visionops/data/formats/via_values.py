"""Read values of VIA's attributes: text, numbers, and checkboxes."""

from __future__ import annotations

from typing import Any

from visionops.data.formats.shapes import printable

__all__ = ["has_value", "is_set", "is_text", "labels_of"]


def is_text(value: Any) -> bool:
    """Return whether a value is non-blank text."""
    return isinstance(value, str) and bool(value.strip())


def is_set(value: Any) -> bool:
    """Return whether a value names a class."""
    return bool(labels_of(value))


def has_value(attributes: Any) -> bool:
    """Return whether any of several attributes is set."""
    return isinstance(attributes, dict) and any(map(is_set, attributes.values()))


def labels_of(value: Any) -> list[str]:
    """Return the classes in the value of an attribute: a text, a number, or the checked boxes."""
    if isinstance(value, dict):
        return [printable(name.strip()) for name, ticked in value.items() if ticked in (True, "true") and name.strip()]
    if type(value) is int:
        return [str(value)] if abs(value) < 1 << 63 else []
    return [printable(value.strip())] if is_text(value) else []
