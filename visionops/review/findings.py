"""Flatten a model's answer or a person's label to class names that a search can look up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["findings_in"]

_MOST_NAMES = 500
"""Maximum number of classes for one image; a class counts once however often it occurs."""


def findings_in(said: Mapping[str, Any] | None) -> dict[str, float]:
    """Return each class in an answer or a label with its highest confidence; 1 where none is given.

    A class of an attribute is named ``attribute=class``, as `ServedTask.labels` has it.

    >>> findings_in({"detections": [{"class_name": "dent", "confidence": 0.4, "box": [0, 0, 9, 9]}]})
    {'dent': 0.4}
    >>> findings_in({"attributes": {"rust": "none", "colour": None}})
    {'rust=none': 1.0}
    """
    found: dict[str, float] = {}
    _walk(said, found)
    return dict(list(found.items())[:_MOST_NAMES])


def _walk(value: Any, found: dict[str, float]) -> None:
    if isinstance(value, list | tuple):
        for one in value:
            _walk(one, found)
    elif isinstance(value, Mapping):
        if isinstance(name := value.get("class_name"), str):
            _keep(name, value, found)
        for key, one in value.items():
            if key == "attributes" and isinstance(one, Mapping):
                _walk_attributes(one, found)
            else:
                _walk(one, found)


def _walk_attributes(attributes: Mapping[str, Any], found: dict[str, float]) -> None:
    for question, answer in attributes.items():
        if isinstance(answer, str):
            _keep(f"{question}={answer}", {}, found)
        elif isinstance(answer, Mapping) and isinstance(name := answer.get("class_name"), str):
            _keep(f"{question}={name}", answer, found)


def _keep(name: str, said: Mapping[str, Any], found: dict[str, float]) -> None:
    confidence = said.get("confidence", 1.0)
    confidence = float(confidence) if isinstance(confidence, int | float) else 1.0
    found[name] = max(confidence, found.get(name, confidence))
