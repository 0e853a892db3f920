"""Read large JSON files, such as annotations of millions of boxes."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

__all__ = ["parse_json", "require_unicode"]

_LONG_NUMBER = re.compile(rb"[0-9]{19}")
_HALF = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|\xed[\xa0-\xbf]|\0"
)
"""What may be half of a surrogate pair: escaped, as bytes that json takes, or in UTF-16."""


def parse_json(data: bytes) -> Any:
    """Parse as `json.loads` does, with the same values and errors, in half of the time.

    Raises:
        ValueError: The bytes are not JSON, or not text.
        RecursionError: It is nested too deep.
    """
    # orjson makes floats of integers that 64 bits do not hold; json keeps them.
    if _LONG_NUMBER.search(data) is None:
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            pass  # NaN, a byte order mark, UTF-16: json takes them, or says what is wrong
    return json.loads(data)


def require_unicode(data: bytes, parsed: Any) -> None:
    """Refuse what `parse_json` made where it holds half of a surrogate pair, which is no text and cannot be stored.

    Raises:
        ValueError: It does.
    """
    if _HALF.search(data) is not None:
        try:
            json.dumps(parsed, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"half of a surrogate pair, {error.object[error.start]!a}") from error
