"""Compute user-defined columns: additional values of each image that monitoring records and compares.

The user writes a function for each column. A bundle's card (``bundle.json``) contains the names of the functions.

>>> columns = UserColumns.load({"glare": "plant.columns:glare"})
>>> columns.values(rgb, prediction, lambda name, error: print(name, error))
{'glare': 0.031}
"""

from __future__ import annotations

import importlib
import inspect
import math
import time
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from pydantic_core import to_json

from visionops.errors import ConfigError
from visionops.inference.prediction import Prediction

__all__ = ["MOST_TEXT", "NO_COLUMNS", "UserColumns", "Value", "encode_values"]

Value = float | str
"""Value of a column: a finite number, or a text of 1 to `MOST_TEXT` characters."""
MOST_TEXT = 64
"""Maximum number of characters in a text."""
_ARGUMENTS = ("image", "prediction")


class UserColumns:
    """The functions of all columns. Safe to use from several threads if the functions are.

    Args:
        functions: Function that computes a column, keyed by the column's name.
    """

    def __init__(self, functions: Mapping[str, Callable[..., object]]) -> None:
        self._functions = {name: (function, _arguments(name, function)) for name, function in functions.items()}

    @classmethod
    def load(cls, columns: Mapping[str, str]) -> UserColumns:
        """Import the functions.

        The parameters of a function must be ``image``, ``prediction`` or both. Without this rule, a bundle could call
        any function of the packages that are installed on a server.

        Args:
            columns: ``module:function``, keyed by the column's name, as in `RecordRules`.

        Raises:
            ConfigError: A module cannot be imported, a function is missing, or it has other parameters.
        """
        return cls({name: _import(name, function) for name, function in columns.items()})

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the columns, in the order of the bundle's card."""
        return tuple(self._functions)

    def values(
        self,
        rgb: npt.NDArray[np.uint8],
        prediction: Prediction,
        on_failure: Callable[[str, BaseException], object] = lambda _name, _error: None,
        on_seconds: Callable[[str, float], object] = lambda _name, _seconds: None,
    ) -> dict[str, Value]:
        """Return the values of the columns for one image, without those whose function fails or returns None.

        Args:
            rgb: uint8 (H, W, 3), decoded and rotated upright. The functions get it read-only.
            prediction: Prediction at the thresholds of the bundle's card.
            on_failure: Called with the column's name and the error if its function fails or its value is not allowed.
            on_seconds: Called with the column's name and the run time of its function in seconds.
        """
        if not self._functions:
            return {}
        image = rgb.view()
        image.flags.writeable = False
        answer = prediction.to_dict()
        values: dict[str, Value] = {}
        for name, (function, wanted) in self._functions.items():
            given = {"image": image, "prediction": answer}
            start = time.perf_counter()
            try:
                value = _check(function(**{argument: given[argument] for argument in wanted}))
            # SystemExit: a function that calls `sys.exit` must not stop the server
            except (Exception, SystemExit) as error:  # noqa: BLE001 - passed to on_failure; other columns continue
                on_failure(name, error)
                value = None
            on_seconds(name, time.perf_counter() - start)
            if value is not None:
                values[name] = value
        return values


NO_COLUMNS = UserColumns({})
"""Columns of a bundle without user-defined columns."""


def encode_values(values: Mapping[str, Value]) -> str:
    """Return the values as a record stores them: a JSON object with numbers of six significant digits."""
    rounded = {name: float(f"{v:.6g}") if isinstance(v, float) else v for name, v in values.items()}
    return to_json(rounded).decode()


def _check(value: object) -> Value | None:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return None
    if isinstance(value, str):
        if not 1 <= len(value) <= MOST_TEXT or not value.isprintable():
            raise ValueError(f"returned a text that is not 1 to {MOST_TEXT} printable characters: {value[:80]!r}")
        return value
    if isinstance(value, int | float):
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(f"returned {number}: not a finite number")
        return number
    raise TypeError(f"returned {type(value).__name__}: expected a number, a short text or None")


def _import(name: str, place: str) -> Callable[..., object]:
    module, _, attribute = place.partition(":")
    where = f"monitoring.columns.{name}: {place}"
    try:
        function = getattr(importlib.import_module(module), attribute, None)
    except (Exception, SystemExit) as error:  # importing a module may raise any error
        why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ConfigError(f"{where}: cannot be imported ({why}); install its module where the model runs") from error
    if not callable(function):
        raise ConfigError(f"{where}: {module} has no function {attribute}; correct the name")
    _arguments(name, function, where)
    return function  # type: ignore[no-any-return]


def _arguments(name: str, function: Callable[..., object], where: str = "") -> tuple[str, ...]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        parameters = ()  # type: ignore[assignment]
    wanted = tuple(p.name for p in parameters if p.name in _ARGUMENTS and p.kind is not p.POSITIONAL_ONLY)
    others = [p.name for p in parameters if p.name not in _ARGUMENTS]
    if not wanted or others:
        raise ConfigError(
            f"{where or name}: expected a function of image, of prediction or of both "
            f"(got {', '.join(others) or 'no such parameter'})"
        )
    return wanted
