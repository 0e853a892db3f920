"""Explain a value that a schema refuses, in one line that names its key as in the file.

The known keys are read from the schema itself: for a union with a discriminator, from the alternative that the settings
chose. A new kind or section needs no code here.
"""

from __future__ import annotations

import enum
import types
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from visionops.addresses import SECRET_ERROR
from visionops.open_union import OpenUnion
from visionops.schema_words import describe_expectation, show_value
from visionops.suggestions import nearest_names, suggest_name

__all__ = ["Key", "Place", "Problem", "describe_problem", "first_error", "known_keys", "locate"]

Key = tuple[str, ...]
"""Path of keys in a file that leads to a setting."""


class Problem(NamedTuple):
    """A mistake in a configuration."""

    key: Key
    """Key of the setting to correct."""
    text: str
    """Description of the mistake, and the fix if it is known; begins with the key."""


class Place(NamedTuple):
    """Place of a pydantic error in a file."""

    key: Key
    """Path of keys, without the tags and names of alternatives that pydantic adds to a location."""
    annotation: Any
    """Type of the value there; None if unknown. For a union without a discriminator, the whole union."""


def locate(schema: Any, location: Sequence[int | str]) -> Place:
    """Return the place in a file, and its type, for a pydantic error location.

    Args:
        schema: The validated model or other type.
        location: ``loc`` of a pydantic error.
    """
    key: list[str] = []
    annotation, tag = _unwrap(schema)
    whole = None
    for part in map(str, location):
        if part == "[key]":  # an error in a mapping's key: the part before is the key itself
            break
        if _is_union(annotation):
            whole = annotation if tag is None else None
            annotation, tag = _unwrap(_alternative(annotation, tag, part))
        else:
            key.append(part)
            whole = None
            annotation, tag = _below(annotation, part)
    return Place(tuple(key), whole if whole is not None and not _is_model(annotation) else annotation)


def known_keys(annotation: Any) -> list[str]:
    """Return the keys that a value of this type may have, sorted; an empty list if it may have any."""
    if _is_model(annotation):
        return sorted(annotation.model_fields)
    first = get_args(annotation)[0] if get_origin(annotation) is dict else None
    return sorted(str(member.value) for member in first) if _is_enum(first) else []


def describe_problem(error: ErrorDetails, schema: Any, above: Key = ()) -> Problem:
    """Return a description of one pydantic error.

    Args:
        error: An item of ``ValidationError.errors()``.
        schema: The validated model. A message of its validators may begin with a key and a colon.
        above: Path of keys that leads to ``schema`` in the file.
    """
    location = error["loc"]
    place = locate(schema, location)
    key, message = (*above, *place.key), describe_expectation(error, place.annotation)
    setting, _, rest = message.partition(": ")
    if rest and setting.split(".")[0] in known_keys(place.annotation):
        key, message = (*key, *setting.split(".")), rest
    dotted = ".".join(key)
    is_key = location[-1:] == ("[key]",)
    if error["type"] == "extra_forbidden" or is_key:
        known = known_keys(locate(schema, location[: -2 if is_key else -1]).annotation)
        if known:
            return Problem(key, f"unknown key {dotted!r}; {suggest_name(key[-1], known, 'known here')}")
    if error["type"] == "missing":
        if isinstance(location[-1], int) and len(key) > 1:  # one value of a list of a fixed length
            whole = describe_expectation({**error, "type": "tuple_type"}, locate(schema, location[:-1]).annotation)
            return Problem(key[:-1], f"{'.'.join(key[:-1])}: {whole} (got {show_value(error['input'])})")
        return Problem(key, f"{dotted!r} is missing")
    if error["type"] in {"union_tag_not_found", "union_tag_invalid"}:
        tag = error["ctx"]["discriminator"].strip("'")
        known = [name for model in get_args(place.annotation) for name in _tags(model, tag)]
        is_empty = isinstance(error["input"], dict) and error["input"].get(tag) is None
        if is_empty:
            return Problem(key, f"{f'{dotted}.{tag}'!r} is missing; set it to one of {', '.join(known)}")
        given = error["ctx"]["tag"]
        near = "".join(f" did you mean {name!r}?" for name in nearest_names(given, known))
        return Problem(key, f"{dotted}: unknown {tag} {given!r};{near} known: {', '.join(map(repr, known))}")
    is_shown = error["type"] != SECRET_ERROR and not isinstance(error["input"], dict | None)
    got = f" (got {show_value(error['input'])})" if is_shown else ""
    return Problem(key, f"{dotted}: {message}{got}" if dotted else message)


def first_error(error: ValidationError) -> ErrorDetails:
    """Return the error to report: an unknown key explains most others."""
    return min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")


def _unwrap(annotation: Any, tag: str | None = None) -> tuple[Any, str | None]:
    """Return a type without ``Annotated`` and ``None``, and the discriminator if it is a union with one."""
    while get_origin(annotation) is Annotated:
        annotation, *metadata = get_args(annotation)
        for found in metadata:
            if isinstance(found, OpenUnion):
                return _unwrap(found.annotation)
            if isinstance(found, FieldInfo) and isinstance(found.discriminator, str):
                tag = found.discriminator
    if not _is_union(annotation):
        return annotation, None
    alternatives = [a for a in get_args(annotation) if a is not type(None)]
    return (Union[tuple(alternatives)], tag) if len(alternatives) > 1 else _unwrap(alternatives[0], tag)  # noqa: UP007


def _below(annotation: Any, part: str) -> tuple[Any, str | None]:
    """Return the type of the value under the key or index ``part``."""
    if _is_model(annotation):
        field = annotation.model_fields.get(part)
        if field is None:
            return None, None
        if open_union := next((found for found in field.metadata if isinstance(found, OpenUnion)), None):
            return _unwrap(open_union.annotation)
        return _unwrap(field.annotation, field.discriminator if isinstance(field.discriminator, str) else None)
    arguments = get_args(annotation)
    if get_origin(annotation) is dict:
        return _unwrap(arguments[1])
    if get_origin(annotation) in {list, tuple}:
        is_row = get_origin(annotation) is tuple and arguments[-1] is not Ellipsis
        return _unwrap(arguments[int(part)] if is_row and part.isdecimal() else arguments[0])
    return None, None


def _alternative(union: Any, tag: str | None, label: str) -> Any:
    """Return the alternative that pydantic calls ``label``, by its tag or by its type."""
    for alternative in get_args(union):
        if tag is None:
            if label.partition("[")[0] == getattr(get_origin(alternative) or alternative, "__name__", ""):
                return alternative
        elif label in _tags(alternative, tag):
            return alternative
    return None


def _tags(model: Any, tag: str) -> list[str]:
    """Return the values of a discriminator that choose ``model``."""
    return [str(value) for value in get_args(model.model_fields[tag].annotation)]


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in {Union, types.UnionType}


def _is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _is_enum(annotation: Any) -> TypeGuard[type[enum.Enum]]:
    return isinstance(annotation, type) and issubclass(annotation, enum.Enum)
