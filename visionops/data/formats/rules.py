"""From a raw value (a cell of a table, the name of a class folder) to a class."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping

from visionops.config import LabelRule, raw_key
from visionops.data.dataset import Attribute

__all__ = ["DROPPED", "OUTSIDE", "UNKNOWN", "LabelReader", "list_names", "suggest"]

UNKNOWN = -1
"""The image is not asked this question."""
DROPPED = -2
"""The image is left out."""
OUTSIDE = -3
"""No rule says what the raw value means."""

_AFFIRMATIVE = frozenset({"1", "true", "yes", "y"})
_YAML_BOOLEANS = frozenset({"yes", "no", "on", "off"})


@dataclasses.dataclass(frozen=True, slots=True)
class LabelReader:
    """One attribute and what each raw value says about it."""

    attribute: Attribute
    values: Mapping[str, int]
    """`raw_key` of a raw value to class id."""
    ranges: tuple[tuple[float, float], ...] = ()
    """By class id: lowest and highest number, both included."""
    default: int = OUTSIDE
    unknown: frozenset[str] = frozenset({""})
    drop: frozenset[str] = frozenset()

    @classmethod
    def by_rule(cls, name: str, rule: LabelRule) -> LabelReader:
        """As ``data.labels`` says; of two classes the last is the positive one unless the rule names it."""
        names = tuple(rule.classes or rule.ranges or {})
        positive = rule.positive or (names[-1] if len(names) == 2 else None)
        return cls(
            Attribute(name, names, positive),
            {raw_key(v): i for i, values in enumerate((rule.classes or {}).values()) for v in values},
            tuple((rule.ranges or {}).values()),
            names.index(rule.default) if rule.default is not None else OUTSIDE,
            frozenset(map(raw_key, rule.unknown)),
            frozenset(map(raw_key, rule.drop)),
        )

    @classmethod
    def by_values(cls, name: str, raws: Iterable[str]) -> LabelReader:
        """Each value is its own class, numbers in their order and then texts in theirs; nothing at all is not known.

        Of two classes the last is positive where it says so itself (1, true, yes): the order of other names means
        nothing.
        """
        names = tuple(sorted({raw_key(raw) for raw in set(raws)} - {""}, key=_order))
        positive = names[1] if len(names) == 2 and names[1].casefold() in _AFFIRMATIVE else None
        return cls(Attribute(name, names, positive), {value: i for i, value in enumerate(names)})

    def class_id(self, raw: str) -> int:
        """Class id, or `UNKNOWN`, `DROPPED`, `OUTSIDE`."""
        key = raw_key(raw)
        if key in self.drop:
            return DROPPED
        if key in self.values:
            return self.values[key]
        if key in self.unknown:
            return UNKNOWN
        number = _number(key)
        if number is not None:
            for class_id, (low, high) in enumerate(self.ranges):
                if low <= number <= high:
                    return class_id
        return self.default

    def refusal(self, raw: str) -> str:
        """Why a raw value is outside the mapping, and how to mend it."""
        name = self.attribute.name
        if self.ranges:
            spans = zip(self.attribute.class_names, self.ranges, strict=True)
            known = ", ".join(f"{c} {low:g} to {high:g}" for c, (low, high) in spans)
            return f"{raw!r} is in no range of {name} ({known}); widen one, or add it to data.labels.{name}.drop"
        if raw.casefold() in _YAML_BOOLEANS and raw_key(raw.casefold() in {"yes", "on"}) in self.values:
            return f"{raw!r} is no value of {name}: YAML reads it as true or false; quote it under data.labels.{name}"
        mend = f"{suggest(raw, self.values)}; or add it to a class, unknown or drop of data.labels.{name}"
        return f"{raw!r} is no value of {name}; {mend}"


def suggest(word: str, known: Iterable[str]) -> str:
    """``did you mean 'train'?``, or what there is."""
    names = list(known)
    folded = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(word.casefold(), folded, n=1)
    return f"did you mean {folded[near[0]]!r}?" if near else f"known: {list_names(names)}"


def list_names(names: Iterable[str]) -> str:
    """At most twenty."""
    known = list(names)
    return (", ".join(known[:20]) + (", …" if len(known) > 20 else "")) or "none"


def _number(key: str) -> float | None:
    try:
        return float(key)
    except ValueError:
        return None


def _order(key: str) -> tuple[bool, float, str]:
    number = _number(key)
    return number is None, number or 0.0, key
