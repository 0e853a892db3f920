"""What a setting takes, in the words of YAML, for the error types of pydantic that a file can cause."""

from __future__ import annotations

import enum
import re
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from visionops.suggestions import nearest_names

__all__ = ["describe_expectation", "show_value"]

_LONGEST = 80
"""Characters of a value that a message repeats."""
_CHOICES = frozenset({"enum", "literal_error"})
_WRONG_TYPE = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "a mapping, such as {name: value}",
    "float_parsing": "a number, such as 0.5",
    "float_type": "a number, such as 0.5",
    "int_from_float": "a whole number, such as 3",
    "int_parsing": "a whole number, such as 3",
    "int_type": "a whole number, such as 3",
    "list_type": "a list, such as [a, b]",
    "model_attributes_type": "a mapping of settings",
    "model_type": "a mapping of settings",
    "path_type": "a path, such as data/images",
    "string_type": "a text",
    "tuple_type": "a list, such as [a, b]",
}
"""Error types that mean another type of value, and what each expects where the type itself is not known."""
_LIMITS = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
    "string_too_long": "at most {max_length} characters",
    "string_too_short": "at least {min_length} characters",
    "too_long": "at most {max_length} values",
    "too_short": "at least {min_length} values",
    "finite_number": "a finite number",
}
_PATTERNS = {
    r"^[1-9]\d*(Mi|Gi|Ti)$": "a number with Mi, Gi or Ti, such as 4Gi",
    r"^[a-z][a-z0-9_-]*$": "lower-case letters, digits, dashes and underscores, such as local_2",
    r"^[a-z][a-z0-9-]*$": "lower-case letters, digits and dashes, such as steel-2",
    r"^[0-9A-Fa-f]{64}$": "64 hexadecimal digits, as sha256sum prints them",
}


def describe_expectation(error: ErrorDetails, annotation: Any = None) -> str:
    """Return what was expected in place of a value, such as ``expected a whole number, such as 3``.

    A value that is like one of the choices has the nearest one suggested. Messages of validators stay as they are.

    Args:
        error: Of ``ValidationError.errors()``.
        annotation: Type of the value; None where it is not known.
    """
    kind, context, given = error["type"], error.get("ctx", {}), error["input"]
    if kind in _CHOICES:
        choices = _choices(annotation) or re.findall(r"'([^']*)'", str(context.get("expected", "")))
        near = nearest_names(given, map(str, choices)) if isinstance(given, str) else []
        return f"expected {_list_choices(choices)}" + (f"; did you mean {near[0]!r}?" if near else "")
    if kind in _WRONG_TYPE:
        expected = (_words(annotation, given) if annotation is not None else "") or _WRONG_TYPE[kind]
        return f"{'is empty; ' if given is None else ''}expected {expected}"
    if kind in _LIMITS:
        limits = {name: f"{limit:g}" if isinstance(limit, float) else limit for name, limit in context.items()}
        return f"expected {_LIMITS[kind].format(**limits)}"
    if kind == "string_pattern_mismatch":
        pattern = context["pattern"]
        return f"expected {_PATTERNS.get(pattern, f'a text that matches {pattern}')}"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return re.sub(r"^(Input|String|Value) should (be )?", "expected ", message)


def show_value(value: Any) -> str:
    """Return a value as a message repeats it: as YAML has it, cut where it is long."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _words(annotation: Any, given: Any) -> str:  # noqa: PLR0911 - a line for each type
    """Return what a type takes, with the given value as the example where it is one; "" where that is not known."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in {Union, types.UnionType}:
        models = [a for a in arguments if isinstance(a, type) and issubclass(a, BaseModel)]
        others = [_words(a, given) for a in arguments if a is not type(None) and a not in models]
        others.sort(key=lambda words: words.startswith("a text"))  # which ends with advice
        return " or ".join(dict.fromkeys([*others, *(_model_words(model) for model in models[:1])]))
    if origin in {tuple, list}:
        return _list_words(arguments, given)
    if origin is dict:
        return f"a mapping, such as {{{_example(arguments[0])}: {_example(arguments[1])}}}"
    if choices := _choices(annotation):
        return _list_choices(choices)
    if not isinstance(annotation, type):
        return ""
    if issubclass(annotation, BaseModel):
        return f"a mapping with the keys {', '.join(annotation.model_fields)}"
    if issubclass(annotation, str):
        if isinstance(given, bool):  # YAML reads the bare words yes, no, on and off so, too
            return "a text; write it in quotes, as 'yes'"
        return "a text" + ("" if isinstance(given, list | dict | None) else f"; write it in quotes: '{given}'")
    return next((words for known, words in _PLAIN.items() if issubclass(annotation, known)), "")


def _model_words(model: type[BaseModel]) -> str:
    """Return what a union of models takes, by what its first one cannot do without."""
    needed = [name for name, field in model.model_fields.items() if field.is_required()]
    shown = ", ".join(f"{name}: {_example(model.model_fields[name].annotation)}" for name in needed)
    return f"a mapping of settings, such as {{{shown}}}" if needed else "a mapping of settings"


_PLAIN: Mapping[type, str] = {
    bool: _WRONG_TYPE["bool_type"],
    int: _WRONG_TYPE["int_type"],
    float: _WRONG_TYPE["float_type"],
    Path: _WRONG_TYPE["path_type"],
}
"""In this order: True is an int, too."""


def _list_words(arguments: Sequence[Any], given: Any) -> str:
    if not arguments:
        return _WRONG_TYPE["list_type"]
    if arguments[-1] is not Ellipsis and len(arguments) > 1:
        return f"a list of {len(arguments)} values, such as [{', '.join(map(_example, arguments))}]"
    is_scalar = isinstance(given, str | int | float) and not isinstance(given, bool)
    return f"a list, such as [{given if is_scalar else _example(arguments[0])}]"


def _example(annotation: Any) -> str:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if choices := _choices(annotation):
        return str(choices[0])
    if get_origin(annotation) in {tuple, list}:
        return f"[{_example(get_args(annotation)[0])}]"
    return {int: "3", float: "0.5", bool: "true", Any: "value", Path: "data/images"}.get(annotation, "name")


def _choices(annotation: Any) -> list[Any]:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return [member.value for member in annotation]
    return []


def _list_choices(choices: Sequence[Any]) -> str:
    shown = [show_value(choice) if not isinstance(choice, str) else choice for choice in choices]
    return f"{', '.join(shown[:-1])} or {shown[-1]}" if len(shown) > 1 else "".join(shown)
