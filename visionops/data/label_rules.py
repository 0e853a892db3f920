"""Derive labels from raw values: from a column of a table, or from the name of a class folder."""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
from typing import Annotated, Any

from pydantic import Field, model_validator

from visionops.settings import Raw, Settings
from visionops.suggestions import suggest_name

__all__ = ["LabelRule", "WeightRule", "raw_key"]


class LabelRule(Settings):
    """Derives one attribute from a raw column, or from the name of a class folder.

    Exactly one of ``classes`` (lists of raw values) and ``ranges`` (of a number) must be set.
    """

    column: str | None = None
    """`table` only: the raw column; the attribute's own name if absent."""
    classes: dict[str, tuple[Raw, ...]] | None = None
    """Maps a class to its raw values, in the order of class ids."""
    ranges: dict[str, tuple[float, float]] | None = None
    """Maps a class to its lowest and highest number, both included."""
    default: str | None = None
    """Class of every other raw value; without it, other values are refused."""
    unknown: tuple[Raw, ...] = ("",)
    """Raw values that mean "not known": the image then has no label for this attribute."""
    drop: tuple[Raw, ...] = ()
    """Raw values whose images are left out, because they are too uncertain or irrelevant."""
    positive: str | None = None
    """Positive one of two classes ("defective"); the last if absent."""

    @model_validator(mode="before")
    @classmethod
    def _name_classes(cls, raw: Any) -> Any:
        """Refuse class names that YAML reads as booleans: the bare words yes, no, on and off must be quoted."""
        for key in ("classes", "ranges"):
            given = raw.get(key) if isinstance(raw, dict) else None
            for name in given if isinstance(given, dict) else ():
                if not isinstance(name, str):  # pydantic reports a ValueError as one line, but not a TypeError
                    raise ValueError(  # noqa: TRY004
                        f"YAML reads the class name {str(name).lower()} as a boolean; write it in quotes, as 'yes'"
                    )
        return raw

    @model_validator(mode="after")
    def _agree(self) -> LabelRule:
        if (self.classes is None) == (self.ranges is None):
            raise ValueError(
                "give either classes (lists of raw values, as {ok: [good], defective: [scratch, dent]}) or ranges "
                "(lowest and highest number, as {ok: [0, 0.2], defective: [0.8, 1]})"
            )
        names = list(self.classes or self.ranges or {})
        if len(names) < 2:
            raise ValueError(f"needs at least two classes (has {len(names)})")
        for key, name in (("default", self.default), ("positive", self.positive)):
            if name is not None and name not in names:
                raise ValueError(f"{key}: {name!r} is not a class of the rule; {suggest_name(name, names)}")
        if self.positive is not None and len(names) != 2:
            raise ValueError(f"positive {self.positive!r} is only valid with two classes (has {len(names)})")
        self._refuse_overlaps()
        return self

    def _refuse_overlaps(self) -> None:
        owners: dict[str, str] = {}
        for name, values in (self.classes or {}).items():
            for value in values:
                other = owners.setdefault(raw_key(value), name)
                if other != name:
                    raise ValueError(f"raw value {value!r} stands for both {other!r} and {name!r}")
        for key, values in (("unknown", self.unknown), ("drop", self.drop)):
            for value in values:
                # An empty value is unknown by default; a class that lists it takes precedence.
                if raw_key(value) in owners and not (key == "unknown" and raw_key(value) == ""):
                    raise ValueError(f"raw value {value!r} stands for both {owners[raw_key(value)]!r} and {key}")
        ranges = sorted((self.ranges or {}).items(), key=lambda item: item[1])
        for name, (low, high) in ranges:
            if low > high:
                raise ValueError(f"the range of {name!r} ends before it begins: {low:g} to {high:g}")
        for (first, (_, end)), (second, (begin, _)) in itertools.pairwise(ranges):
            if begin <= end:
                raise ValueError(f"the ranges of {first!r} and {second!r} overlap at {begin:g}")


_PLAIN_NUMBER = re.compile(r"[+-]?(0|[1-9][0-9]*|(?=\.[0-9]))(\.[0-9]*)?([eE][+-]?[0-9]+)?")


def raw_key(value: Raw) -> str:
    """Return a text that is equal for raw values with the same meaning.

    1, "1", " 1 " and "1.0" are equal, and true and "True"; "01" (a code, not a number) and 1 are not.
    """
    text = unicodedata.normalize("NFC", str(value).strip())
    if text.casefold() in {"true", "false"}:
        return text.casefold()
    if not _PLAIN_NUMBER.fullmatch(text):
        return text
    number = float(text)
    if number.is_integer() and abs(number) < 2**53:
        return str(int(number))
    return repr(number) if math.isfinite(number) and not number.is_integer() else text


class WeightRule(Settings):
    """Weight of each image in training, from a raw column: for labels with a certainty."""

    column: str
    """Column of the table that holds the numbers."""
    values: dict[float, Annotated[float, Field(ge=0, le=1000)]] = Field(min_length=1)
    """Maps a number in the column to a weight, by the nearest number; 0 leaves the image out of the loss."""
