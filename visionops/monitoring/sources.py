"""Which camera, line or site an image came from: said by the sender, or read off a name by a rule."""

from __future__ import annotations

import re

__all__ = ["SOURCE_HEADER", "is_source", "source_of"]

SOURCE_HEADER = "X-Source"
"""Of a request: names the source of its images."""
_SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def is_source(name: str) -> bool:
    """Return whether a name can be a source: 1 to 64 letters, digits, dots, dashes and _; the first no sign."""
    return _SOURCE.fullmatch(name) is not None


def source_of(pattern: str, name: str) -> str:
    """Return what the group ``source`` of a pattern finds in a name; "" where it finds nothing that can be a source.

    Args:
        pattern: By `RecordRules.source_pattern`; "" finds nothing.
        name: Key of an image, or id of a request.
    """
    found = re.search(pattern, name) if pattern else None
    source = (found["source"] or "") if found else ""
    return source if is_source(source) else ""
