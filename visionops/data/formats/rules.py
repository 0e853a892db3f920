"""Map raw values (cells of a table, names of class folders) to classes."""

from __future__ import annotations

import collections
import dataclasses
import math
import re
from collections.abc import Iterable, Mapping

from visionops.data.findings import counted
from visionops.data.formats.assembly import fold_name
from visionops.data.label_rules import LabelRule, raw_key
from visionops.data.layers import Attribute
from visionops.suggestions import nearest_names, suggest_name

__all__ = ["DROPPED", "OUTSIDE", "UNKNOWN", "LabelReader", "is_missing", "list_names", "number_of"]

UNKNOWN = -1
"""The image has no label for this attribute."""
DROPPED = -2
"""The image is left out."""
OUTSIDE = -3
"""No rule covers the raw value."""

_AFFIRMATIVE = frozenset({"1", "true", "yes", "y"})
_YAML_BOOLEANS = frozenset({"yes", "no", "on", "off"})
_MISSING = frozenset({"", "nan", "-nan", "?", "n/a", "#n/a", "<na>"})
"""Folded texts that programs write for "no value". They are not classes, unless a rule lists them as values."""
_LIKE_MISSING = frozenset({"na", "none", "null", "-", "unknown"})
"""Folded texts that may mean "no value" or a class: a person has to decide."""
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclasses.dataclass(frozen=True, slots=True)
class LabelReader:
    """One attribute and the meaning of each raw value."""

    attribute: Attribute
    values: Mapping[str, int]
    """Maps `raw_key` of a raw value to a class id."""
    ranges: tuple[tuple[float, float], ...] = ()
    """Lowest and highest number by class id, both included."""
    default: int = OUTSIDE
    unknown: frozenset[str] = frozenset({""})
    drop: frozenset[str] = frozenset()
    given: bool = False
    """Whether a rule of ``data.labels`` defines the classes, not the values themselves."""
    folded: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Maps `fold_name` of a raw value to its meaning, for values that differ from a known one only in case or
    spaces."""

    @classmethod
    def by_rule(cls, name: str, rule: LabelRule) -> LabelReader:
        """Return a reader for a rule of ``data.labels``; by default the last of two classes is positive."""
        names = tuple(rule.classes or rule.ranges or {})
        positive = rule.positive or (names[-1] if len(names) == 2 else None)
        values = {raw_key(v): i for i, values in enumerate((rule.classes or {}).values()) for v in values}
        unknown, drop = frozenset(map(raw_key, rule.unknown)), frozenset(map(raw_key, rule.drop))
        return cls(
            Attribute(name, names, positive),
            values,
            tuple((rule.ranges or {}).values()),
            names.index(rule.default) if rule.default is not None else OUTSIDE,
            unknown,
            drop,
            given=True,
            folded=_fold({**dict.fromkeys(unknown, UNKNOWN), **dict.fromkeys(drop, DROPPED), **values}),
        )

    @classmethod
    def by_values(cls, name: str, raws: Iterable[str]) -> LabelReader:
        """Return a reader with one class per value: numbers in order, then texts in order; missing values are unknown.

        Values that differ only in case or spaces are one class, with the first spelling. Of two classes the last is
        positive if its name says so (1, true, yes): the order of other names has no meaning.

        Args:
            name: Name of the attribute.
            raws: Values in reading order, with duplicates.
        """
        spellings: dict[str, str] = {}
        for key in dict.fromkeys(map(raw_key, dict.fromkeys(raws))):
            if not is_missing(key):
                spellings.setdefault(fold_name(key), key)
        names = tuple(sorted(spellings.values(), key=_order))
        positive = names[1] if len(names) == 2 and names[1].casefold() in _AFFIRMATIVE else None
        values = {value: i for i, value in enumerate(names)}
        return cls(Attribute(name, names, positive), values, folded=_fold(values))

    def class_id(self, raw: str) -> int:
        """Return the class id, or `UNKNOWN`, `DROPPED`, `OUTSIDE`. An exactly listed value takes precedence."""
        key = raw_key(raw)
        if key in self.drop:
            return DROPPED
        if key in self.values:
            return self.values[key]
        if key in self.unknown:
            return UNKNOWN
        number = number_of(key)
        if number is not None:
            for class_id, (low, high) in enumerate(self.ranges):
                if low <= number <= high:
                    return class_id
        folded = fold_name(key)
        if folded in self.folded:
            return self.folded[folded]
        return UNKNOWN if is_missing(key) else self.default

    def notes(self, raws: Iterable[str], column: str) -> list[str]:
        """Return notes on values that count as missing or as another spelling, and on values that look like missing.

        Args:
            raws: All values of the column.
            column: Name of the column in the notes.
        """
        counts = collections.Counter(raws)
        missing: dict[str, int] = {}
        merged: dict[int, dict[str, None]] = {}
        doubtful: dict[str, None] = {}
        for raw, count in counts.items():
            key, class_id = raw_key(raw), self.class_id(raw)
            if class_id == UNKNOWN and is_missing(key) and (key not in self.unknown or not key):
                missing[key] = missing.get(key, 0) + count
            elif class_id != OUTSIDE and key not in self.drop | self.unknown and self._is_respelled(key):
                merged.setdefault(class_id, {})[key] = None
            elif not self.given and fold_name(key) in _LIKE_MISSING:
                doubtful[key] = None
        notes = [self._merge_note(class_id, keys, column) for class_id, keys in sorted(merged.items())]
        if any(missing):  # an empty cell needs no note
            shown = ", ".join(f"{count} x {key or 'empty'}" for key, count in sorted(missing.items()))
            total = counted(sum(missing.values()), "missing value")
            notes.append(f"{total} in column {column}: {shown}.")
        if doubtful:
            shown = ", ".join(map(repr, sorted(doubtful)))
            notes.append(
                f"Values {shown} of column {column} look like missing ones; add them to "
                f"data.labels.{self.attribute.name}.unknown if they are."
            )
        return notes

    def _is_respelled(self, key: str) -> bool:
        return key not in self.values and number_of(key) is None and fold_name(key) in self.folded

    def _merge_note(self, class_id: int, keys: Iterable[str], column: str) -> str:
        spelled = ", ".join(map(repr, sorted(keys)))
        what = {UNKNOWN: "not known", DROPPED: "left out"}.get(class_id)
        known = repr(self.attribute.class_names[class_id]) if what is None else what
        return f"{spelled} of column {column} read as {known}: only case or spaces differ."

    def refusal(self, raw: str, found: Iterable[str]) -> str:
        """Return why a raw value is outside the mapping, and how to fix it.

        Args:
            found: All raw values of the data. A value of the rule that is not among them may be the misspelt one.
        """
        name = self.attribute.name
        if self.ranges:
            spans = zip(self.attribute.class_names, self.ranges, strict=True)
            known = ", ".join(f"{c} {low:g} to {high:g}" for c, (low, high) in spans)
            return f"{raw!r} is outside the ranges of {name} ({known}); widen one, or add it to data.labels.{name}.drop"
        if raw.casefold() in _YAML_BOOLEANS and raw_key(raw.casefold() in {"yes", "on"}) in self.values:
            return (
                f"{raw!r} is not a value of {name}: YAML reads it as true or false; quote it under data.labels.{name}"
            )
        unused = self.values.keys() - set(map(raw_key, found))
        near = nearest_names(raw, self.values)
        if near and near[0] in unused:
            return (
                f"{raw!r} is not a value of {name}; data.labels.{name} has {near[0]!r} instead, which the data does "
                "not have: correct the one that is misspelt"
            )
        fix = f"{suggest_name(raw, self.values)}; or add it to a class, unknown or drop of data.labels.{name}"
        return f"{raw!r} is not a value of {name}; {fix}"


def is_missing(raw: str) -> bool:
    """Return whether a raw value is one that programs write for "no value"."""
    return fold_name(raw) in _MISSING


def list_names(names: Iterable[str]) -> str:
    """Return a comma-separated list of at most twenty names."""
    known = list(names)
    return (", ".join(known[:20]) + (", …" if len(known) > 20 else "")) or "none"


def number_of(key: str) -> float | None:
    """Return a text as a finite decimal number, or None. Python accepts more: ``nan``, ``inf``, ``1_000``."""
    if not _NUMBER.fullmatch(key):
        return None
    number = float(key)
    return number if math.isfinite(number) else None


def _order(key: str) -> tuple[bool, float, str]:
    number = number_of(key)
    return number is None, number or 0.0, key


def _fold(meanings: Mapping[str, int]) -> dict[str, int]:
    """Return a mapping of folded values to meanings, without values of several meanings that fold to the same."""
    owners: dict[str, set[int]] = {}
    for key, meaning in meanings.items():
        owners.setdefault(fold_name(key), set()).add(meaning)
    return {folded: next(iter(ids)) for folded, ids in owners.items() if len(ids) == 1}
