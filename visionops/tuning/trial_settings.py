"""Settings of a training with those of a trial in their place, through the checks of ``--set``."""

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
    """Whether the setting ``key`` under ``training`` refuses a number because it is not whole."""
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
        origin: Where they come from, for messages.

    Raises:
        ConfigError: An unknown setting, or a value that it does not take.
    """
    if problem := _problem(training, settings):
        raise ConfigError(f"{origin}: {problem.text_with_key()}")
    return _changed(training, settings)


def find_impossible_trial(training: TrainingBase, tuning: TuningConfig) -> str:
    """Return what the trainer would refuse of a search, beginning with the key to correct; "" for nothing."""
    for row, settings in enumerate(tuning.grid):
        if problem := _problem(training, settings):
            return f"tuning.grid.{row}: {problem.text_with_key()}"
        if (first := tuning.grid.index(settings)) < row:
            return f"tuning.grid.{row}: the same settings stand in row {first} already (counted from 0)"
    for settings in _representative_trials(training, tuning.space):
        if problem := _problem(training, settings):
            return f"tuning.space.{problem.key}: {problem.text}"
    return ""


class _Problem(NamedTuple):
    key: str
    """Of the setting, below ``training``."""
    text: str
    """What is wrong with it, and the fix."""

    def text_with_key(self) -> str:
        return self.text if self.text.startswith("unknown key") else f"training.{self.key}: {self.text}"


def _representative_trials(training: TrainingBase, space: Mapping[str, SearchRange]) -> Iterator[dict[str, Any]]:
    """Settings of which one is refused, if the search could come upon what is refused.

    Every value with each other setting at its first, then every pair of values; of long ranges three.
    """
    values = {key: found.examples(whole=takes_whole_numbers(training, key)) for key, found in space.items()}
    first = {key: examples[0] for key, examples in values.items()}
    for key, examples in values.items():
        yield from ({**first, key: value} for value in examples)
    for one, other in itertools.combinations(values, 2):
        for a, b in itertools.product(_few(values[one]), _few(values[other])):
            yield {**first, one: a, other: b}


def _few(values: list[Any]) -> list[Any]:
    """All of a few (choices are rarely more), else ends and middle."""
    return values if len(values) <= 8 else [values[0], values[len(values) // 2], values[-1]]


def _problem(training: TrainingBase, settings: Mapping[str, Any]) -> _Problem | None:
    """Return what forbids these settings; None when nothing does."""
    if "task" in settings:
        return _Problem("task", "is of the use case, and no setting to try; leave it out")
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
