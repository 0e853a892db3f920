"""How labels come from raw values: of a column of a table, or of the name of a class folder."""

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
    """How one attribute comes from a raw column, or from the name of a class folder.

    Exactly one of ``classes`` (lists of raw values) and ``ranges`` (of a number) says it.
    """

    column: str | None = None
    """`table` only: the raw column; the attribute's own name when absent."""
    classes: dict[str, tuple[Raw, ...]] | None = None
    """Class to the raw values it stands for, in the order of class ids."""
    ranges: dict[str, tuple[float, float]] | None = None
    """Class to the lowest and highest number it stands for, both included."""
    default: str | None = None
    """Class of every other raw value; without it another value is refused."""
    unknown: tuple[Raw, ...] = ("",)
    """Raw values that say "not known": the image is then not asked this question."""
    drop: tuple[Raw, ...] = ()
    """Raw values whose images are left out, as too uncertain or as of no interest."""
    positive: str | None = None
    """Of two classes, the one that is looked for ("defective"); the last when absent."""

    @model_validator(mode="before")
    @classmethod
    def _name_classes(cls, raw: Any) -> Any:
        """YAML reads the bare words yes, no, on and off as true and false: as names of classes they must be quoted."""
        for key in ("classes", "ranges"):
            given = raw.get(key) if isinstance(raw, dict) else None
            for name in given if isinstance(given, dict) else ():
                if not isinstance(name, str):  # pydantic turns a ValueError into one line, a TypeError into none
                    raise ValueError(  # noqa: TRY004
                        f"class name {str(name).lower()} is no text to YAML; write it in quotes, as 'yes'"
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
            raise ValueError(f"needs two classes or more (has {len(names)})")
        for key, name in (("default", self.default), ("positive", self.positive)):
            if name is not None and name not in names:
                raise ValueError(f"{key}: {name!r} is no class of the rule; {suggest_name(name, names)}")
        if self.positive is not None and len(names) != 2:
            raise ValueError(f"positive {self.positive!r} makes sense with two classes (has {len(names)})")
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
                # Nothing at all is unknown by default; a class that lists it wins.
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
    """What two raw values share when they mean the same, as text.

    1, "1", " 1 " and "1.0" do, and true and "True"; "01", which is a code and no number, and 1 do not.
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
    """How much each image counts in training, from a raw column: for labels that say how sure they are."""

    column: str
    """Column of the table that holds the numbers."""
    values: dict[float, Annotated[float, Field(ge=0, le=1000)]] = Field(min_length=1)
    """Number in the column to weight, by the nearest; 0 leaves the image out of the loss."""
