"""Check texts, JSON and times before they are stored, so that every supported database can hold them."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from visionops.review.errors import Invalid

__all__ = ["MOST_COMMENT", "MOST_NAME", "canonical", "check_json", "check_name", "check_text", "digest_of", "in_utc"]

MOST_NAME = 200
MOST_COMMENT = 4000
"""Maximum length of a text, in characters."""
_MOST_JSON = 2_000_000
_DEEPEST = 20
_UNKEPT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
"""Control characters other than tab and line breaks, and lone surrogates: PostgreSQL or UTF-8 cannot hold them all."""


def check_text(value: str, field: str, limit: int = MOST_COMMENT) -> str:
    """Return a free text unchanged; it may have several lines.

    Raises:
        Invalid: It is longer than ``limit`` characters, or has a control character.
    """
    if len(value) > limit:
        raise Invalid(f"{field}: has {len(value)} characters; expected at most {limit}")
    if _UNKEPT.search(value):
        raise Invalid(f"{field}: has a control character or half of a character; remove it")
    return value


def check_name(value: str, field: str, limit: int = MOST_NAME) -> str:
    """Return a name unchanged: one line, not empty.

    Raises:
        Invalid: It is empty, has more than one line, is longer than ``limit``, or has a control character.
    """
    if not value.strip():
        raise Invalid(f"{field}: is empty")
    if any(mark in value for mark in "\n\r\t\u2028\u2029"):
        raise Invalid(f"{field}: has a line break or tab; expected one line")
    return check_text(value, field, limit)


def check_json(value: Mapping[str, Any], field: str) -> dict[str, Any]:
    """Return a JSON object as plain values.

    Raises:
        Invalid: It is larger than 2 MB, deeper than 20 levels, or has a value that JSON or a database cannot hold
            (NaN).
    """
    plain = _plain(value, field, 0)
    if len(canonical(plain)) > _MOST_JSON:
        raise Invalid(f"{field}: is larger than {_MOST_JSON} characters")
    return {**plain}


def _plain(value: Any, field: str, depth: int) -> Any:
    if depth > _DEEPEST:
        raise Invalid(f"{field}: is deeper than {_DEEPEST} levels")
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise Invalid(f"{field}: has a key that is not a string")
        return {check_text(name, field): _plain(one, field, depth + 1) for name, one in value.items()}
    if isinstance(value, str):
        return check_text(value, field, _MOST_JSON)
    if isinstance(value, list | tuple):
        return [_plain(one, field, depth + 1) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise Invalid(f"{field}: holds {value}, which is not a JSON number")
    if value is not None and not isinstance(value, bool | int | float):
        raise Invalid(f"{field}: holds a {type(value).__name__}, which is not a JSON type")
    return value


def canonical(value: Any) -> str:
    """Return plain values as JSON text that is the same for equal values.

    Raises:
        ValueError: A number is not finite.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_of(*parts: Any) -> str:
    """Return the digest that identifies plain values: SHA-256, lower-case hex."""
    return hashlib.sha256(canonical(parts).encode("utf-8", "backslashreplace")).hexdigest()


def in_utc(when: datetime) -> datetime:
    """Return the same moment in UTC.

    Raises:
        ValueError: It has no time zone, which is a programming error.
    """
    if when.utcoffset() is None:
        raise ValueError(f"{when.isoformat()} has no time zone")
    return when.astimezone(UTC)
