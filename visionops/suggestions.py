"""Suggest the names that a person may have meant.

>>> suggest_name("Mustard", ["ketchup", "mustard"])
"did you mean 'mustard'?"
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

__all__ = ["nearest_names", "suggest_name", "suggest_variable"]

_LISTED = 30
"""Longest list of names that a message gives in full."""
_SHOWN = 12
"""Names that a message gives of a longer list."""
_ABOUT = 0.15
"""Difference of ratios up to which names are about as near."""
_SHORTEST = 3
"""Letters of a name that can be short for another."""
_MANY = 6
"""Near names that a message gives where it cannot list all."""
_ALIKE = 0.6
"""Ratio of `difflib` from which two names are alike."""
_ALIKE_VARIABLE = 0.75
"""The same for variables, which begin alike."""


def nearest_names(word: str, known: Iterable[str], count: int = 1) -> list[str]:
    """Return the known names that are most like a word, the nearest first; none where no name is like it.

    Case, spaces, dashes and underscores do not count: "mAP-50" is as near to "map50" as a name can be.
    """
    names: dict[str, str] = {}
    for name in known:
        names.setdefault(_fold(name), name)
    folded = _fold(word)
    near = difflib.get_close_matches(folded, names, n=count, cutoff=_ALIKE)
    # "conf" is short for "confidence", although most of the longer one is missing.
    cut = [name for name in names if min(len(name), len(folded)) >= _SHORTEST and _begins(name, folded)]
    return [names[found] for found in dict.fromkeys([*near, *cut])][:count]


def suggest_name(word: str, known: Iterable[str], label: str = "known") -> str:
    """Return how a message about an unknown name ends: the nearest name, of many the nearest few, or else a list.

    Args:
        word: What was given.
        known: What could have been.
        label: Stands before the list.
    """
    names = list(known)
    near = nearest_names(word, names, _MANY)
    if near:
        likeness = [difflib.SequenceMatcher(None, _fold(name), _fold(word)).ratio() for name in near]
        # In a long list, those that are about as near as the nearest.
        shown = [name for name, ratio in zip(near, likeness, strict=True) if ratio > likeness[0] - _ABOUT]
        return f"did you mean {', '.join(map(repr, shown if len(names) > _LISTED else near[:1]))}?"
    if len(names) <= _LISTED:
        return f"{label}: {', '.join(names) or 'none'}"
    return f"{label}: {', '.join(names[:_SHOWN])}, … ({len(names)} in all)"


def suggest_variable(name: str, environment: Mapping[str, str]) -> str:
    """Return the end of a message about a variable that is not set: one that is set and may be meant; "" for none."""
    near = difflib.get_close_matches(
        name, (known for known in environment if known != name), n=1, cutoff=_ALIKE_VARIABLE
    )
    return f"; {near[0]} is set: is it misspelt?" if near else ""


def _begins(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _fold(name: str) -> str:
    return re.sub(r"[\s_-]", "", name.casefold()) or name
