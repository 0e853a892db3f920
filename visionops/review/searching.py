"""Filters for a search in a review, as one value that a store answers and a URL can hold."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode

from visionops.review.checks import check_name, check_text
from visionops.review.errors import Invalid
from visionops.review.items import Origin, ReviewItem
from visionops.review.states import State, Verdict

__all__ = ["MOST_COUNTED", "MOST_EXPORTED", "PAGE", "ClassSource", "Found", "SavedSearch", "Search"]

PAGE = 48
"""Items on a page; divisible by 2, 3, 4 and 6, so that it fills rows of these lengths."""
MOST_COUNTED = 10 * PAGE
"""Maximum number of counted matches; beyond it the page shows "more than" this number."""
MOST_EXPORTED = 10_000
"""Maximum number of items in an export."""
_MOST_NAMES = 20
_MOST_QUERY = 4000
"""Maximum length of a query, in characters."""


class ClassSource(enum.StrEnum):
    """Source of the classes that a search matches."""

    MODEL = "model"
    """Current prediction of a model."""
    LABEL = "label"
    """Newest decision that counts."""
    ANY = "any"


@dataclasses.dataclass(frozen=True, slots=True)
class Search:
    """Filter for items; a field that is None or empty matches all. Items are returned newest first.

    Raises:
        Invalid: A text is too long, a range is reversed, or a number is not finite.
    """

    use_case: str | None = None
    names: tuple[str, ...] = ()
    """Classes, or ``attribute=class``; an item must have all of them."""
    said_by: ClassSource = ClassSource.ANY
    confidence_from: float | None = None
    """Confidence of a model's answer, 0 to 1: of ``names`` where given, else of any class found."""
    confidence_to: float | None = None
    added_from: date | None = None
    """First day; UTC."""
    added_to: date | None = None
    """Last day, included; UTC."""
    reference: str = ""
    """Lot or request id of any arrival; with ``*`` at the end, a prefix."""
    origin: Origin | None = None
    """Origin of any arrival."""
    model_version: str = ""
    """Model version of any prediction that arrived with the image or was added later."""
    states: tuple[State, ...] = ()
    verdict: Verdict | None = None
    """Verdict of any round."""
    text: str = ""
    """Text in a comment, a reason or a file name; case-insensitive."""
    like: str = ""
    """Id of an item, or SHA-256 of an image, that results resemble; the caller resolves it into ``items``."""
    items: tuple[str, ...] | None = dataclasses.field(default=None, metadata={"derived": True})
    """Only these items, in this order; never part of the URL."""
    page: int = 1

    def __post_init__(self) -> None:
        _check(self)

    @property
    def offset(self) -> int:
        """Return the number of the first item of the page, from 0."""
        return (self.page - 1) * PAGE

    @property
    def moments(self) -> tuple[datetime | None, datetime | None]:
        """Return the days as times: from the first time on, before the second."""
        start = None if self.added_from is None else datetime.combine(self.added_from, time(), UTC)
        end = None if self.added_to is None else datetime.combine(self.added_to, time(), UTC) + timedelta(days=1)
        return start, end

    def query(self) -> str:
        """Return the filter as a URL query; unset fields are left out."""
        pairs: list[tuple[str, str]] = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if "derived" in field.metadata or value == field.default:
                continue
            values = value if isinstance(value, tuple) else (value,)
            pairs += [(_NAMES[field.name], _text(one)) for one in values]
        return urlencode(pairs)

    @classmethod
    def from_query(cls, query: str | Sequence[tuple[str, str]]) -> Search:
        """Return the filter in a URL query; unknown parameters are ignored.

        Raises:
            Invalid: A value is not allowed for its parameter; the message names both.
        """
        if isinstance(query, str):
            if len(query) > _MOST_QUERY:
                raise Invalid(f"address: has {len(query)} characters, at most {_MOST_QUERY} allowed; shorten it")
            query = parse_qsl(query)
        given: dict[str, list[str]] = {}
        for name, value in query:
            if value:
                given.setdefault(name, []).append(value)
        values: dict[str, Any] = {field: _value(field, given[name]) for field, name in _NAMES.items() if name in given}
        return cls(**values)


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A page of search results."""

    items: tuple[ReviewItem, ...]
    count: int
    """Number of all matches, or the least number where `has_more`."""
    has_more: bool = False
    labels: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """Decisions of those items whose current round was decided with a label, keyed by item."""


@dataclasses.dataclass(frozen=True, slots=True)
class SavedSearch:
    """A filter that a person saved.

    Raises:
        Invalid: The name is empty, longer than 100 characters, or not one line; or the filter is too long.
    """

    owner: str
    name: str
    query: str
    """Query in the form of `Search.query`."""

    def __post_init__(self) -> None:
        check_name(self.owner, "owner")
        check_name(self.name, "name", 100)
        check_text(self.query, "filter", _MOST_QUERY)


_PARAMETERS: Mapping[str, str] = {
    "names": "class",
    "said_by": "by",
    "confidence_from": "from",
    "confidence_to": "to",
    "added_from": "since",
    "added_to": "until",
    "model_version": "version",
    "states": "state",
}
_NAMES = {
    field.name: _PARAMETERS.get(field.name, field.name)
    for field in dataclasses.fields(Search)
    if "derived" not in field.metadata
}


def _text(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    return f"{value:g}" if isinstance(value, float) else str(value)


_READERS: Mapping[str, Callable[[str], object]] = {
    "said_by": ClassSource,
    "origin": Origin,
    "verdict": Verdict,
    "states": State,
    "confidence_from": float,
    "confidence_to": float,
    "added_from": date.fromisoformat,
    "added_to": date.fromisoformat,
    "page": int,
}
_SEVERAL = frozenset({"names", "states"})


def _value(field: str, given: Sequence[str]) -> object:
    read = _READERS.get(field, str)
    try:
        values = tuple(dict.fromkeys(read(one) for one in given))
    except ValueError as error:
        raise Invalid(f"{_NAMES[field]}: {given[-1]!r} is not one of its values; remove it from the address") from error
    return values if field in _SEVERAL else values[-1]


def _check(search: Search) -> None:
    if len(search.names) > _MOST_NAMES:
        raise Invalid(f"class: {len(search.names)} are too many; at most {_MOST_NAMES}")
    for field in ("use_case", "reference", "model_version", "text", "like"):
        check_text(getattr(search, field) or "", _NAMES[field], 500)
    for one in search.names:
        check_text(one, "class", 500)
    for value in (search.confidence_from, search.confidence_to):
        if value is not None and not (math.isfinite(value) and 0 <= value <= 1):
            raise Invalid(f"confidence: {value:g} is not from 0 to 1")
    for name, low, high in (
        ("confidence", search.confidence_from, search.confidence_to),
        ("date", search.added_from, search.added_to),
    ):
        if low is not None and high is not None and low > high:  # type: ignore[operator]
            raise Invalid(f"{name}: from {_text(low)} to {_text(high)} is an empty range; swap the two values")
    if search.added_to is not None and search.added_to == date.max:
        raise Invalid(f"date: {search.added_to} is the last supported day; choose an earlier one")
    if not 1 <= search.page <= 1_000_000:
        raise Invalid(f"page: {search.page} is not from 1 to 1000000")
