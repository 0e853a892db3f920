"""Determine the camera, line or site of an image: sent by the client, or extracted from a name by a pattern."""

from __future__ import annotations

import re

__all__ = ["SOURCE_HEADER", "is_source", "source_of"]

SOURCE_HEADER = "X-Source"
"""Header of a request with the source of its images."""
_SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def is_source(name: str) -> bool:
    """Return whether a name is a valid source: 1 to 64 letters, digits, dots, dashes and _, the first alphanumeric."""
    return _SOURCE.fullmatch(name) is not None


def source_of(pattern: str, name: str) -> str:
    """Return the group ``source`` of a pattern's match in a name; "" where it is not a valid source.

    Args:
        pattern: Pattern from `RecordRules.source_pattern`; "" matches nothing.
        name: Key of an image, or id of a request.
    """
    found = re.search(pattern, name) if pattern else None
    source = (found["source"] or "") if found else ""
    return source if is_source(source) else ""
