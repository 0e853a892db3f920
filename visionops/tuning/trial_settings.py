"""Apply the settings of a trial to those of a training, through the checks of ``--set``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from visionops.errors import ConfigError
from visionops.schema import describe_problem, first_error
from visionops.tasks.training_settings import TrainingBase
from visionops.tuning.settings import SearchRange, TuningConfig

__all__ = ["change_training", "find_impossible_trial", "takes_whole_numbers"]


def takes_whole_numbers(training: TrainingBase, key: str) -> bool:
    """Return whether the setting ``key`` under ``training`` accepts only whole numbers."""
    try:
        _changed(training, {key: 0.5})
    except ValidationError as error:
        return any(problem["type"] == "int_from_float" for problem in error.errors())
    except ValueError:
        return False
    return False


def change_training(training: TrainingBase, settings: Mapping[str, Any], origin: str) -> TrainingBase:
    """Return ``training`` with some settings changed, through the checks of ``--set``.

    Args:
        settings: Dotted keys below ``training`` ("augmentation.fliplr") to values.
        origin: Source of the settings, for messages.

    Raises:
        ConfigError: A setting is unknown, or does not accept its value.
    """
    if problem := _problem(training, settings):
        raise ConfigError(f"{origin}: {problem.text_with_key()}")
    return _changed(training, settings)


def find_impossible_trial(training: TrainingBase, tuning: TuningConfig) -> str:
    """Return why the trainer would refuse the search, starting with the key to correct; "" where it would not."""
    for row, settings in enumerate(tuning.grid):
        if problem := _problem(training, settings):
            return f"tuning.grid.{row}: {problem.text_with_key()}"
        if (first := tuning.grid.index(settings)) < row:
            return f"tuning.grid.{row}: has the same settings as row {first} (counted from 0); remove one"
    for settings in _representative_trials(training, tuning.space):
        if problem := _problem(training, settings):
            return f"tuning.space.{problem.key}: {problem.text}"
    return ""


class _Problem(NamedTuple):
    key: str
    """Key of the setting, below ``training``."""
    text: str
    """Problem and its fix."""

    def text_with_key(self) -> str:
        return self.text if self.text.startswith("unknown key") else f"training.{self.key}: {self.text}"


def _representative_trials(training: TrainingBase, space: Mapping[str, SearchRange]) -> Iterator[dict[str, Any]]:
    """Return settings of which at least one is refused if any settings of the search would be refused.

    Every value is combined with the first value of each other setting, then every pair of values; long ranges give
    three.
    """
    values = {key: found.examples(whole=takes_whole_numbers(training, key)) for key, found in space.items()}
    first = {key: examples[0] for key, examples in values.items()}
    for key, examples in values.items():
        yield from ({**first, key: value} for value in examples)
    for one, other in itertools.combinations(values, 2):
        for a, b in itertools.product(_few(values[one]), _few(values[other])):
            yield {**first, one: a, other: b}


def _few(values: list[Any]) -> list[Any]:
    """Return all values if they are few (choices are rarely more), else both ends and the middle."""
    return values if len(values) <= 8 else [values[0], values[len(values) // 2], values[-1]]


def _problem(training: TrainingBase, settings: Mapping[str, Any]) -> _Problem | None:
    """Return why these settings are not allowed; None where they are."""
    if "task" in settings:
        return _Problem("task", "belongs to the use case and cannot be tuned; remove it")
    try:
        _changed(training, settings)
    except ValidationError as error:
        found = describe_problem(first_error(error), type(training), ("training",))
        key = ".".join(found.key[1:])
        return _Problem(key, found.text.removeprefix(f"training.{key}: "))
    except ValueError as error:
        return _Problem(*str(error).split(": ", 1))
    return None


def _changed(training: TrainingBase, settings: Mapping[str, Any]) -> TrainingBase:
    raw = training.model_dump(mode="json")
    for key, value in settings.items():
        *parents, last = key.split(".")
        node = raw
        for part in parents:
            if node.get(part) is None:
                node[part] = {}
            node = node[part]
            if not isinstance(node, dict):
                raise ValueError(f"{key}: {part!r} holds a value, not settings")  # noqa: TRY004 - of a person's file
        node[last] = value
    return type(training).model_validate(raw)
