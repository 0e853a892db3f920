"""Convert the ranges of a search to Optuna's distributions, and draw settings from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from visionops.tasks.settings import TrainingPlan
from visionops.tuning.result import Setting
from visionops.tuning.settings import SearchRange
from visionops.tuning.trial_settings import takes_whole_numbers

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

__all__ = ["distribution_of", "pick", "setting_of", "settings_within"]


def setting_of(plan: TrainingPlan, key: str) -> Any:
    """Return the current value of a dotted key in ``training``; None where it is not set."""
    found: Any = plan.training.model_dump(mode="json")
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def distribution_of(plan: TrainingPlan, key: str, search: SearchRange) -> BaseDistribution:
    """Return the distribution of a setting; an integer one where the setting takes integers."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if search.choices is not None:
        return CategoricalDistribution(search.choices)
    low, high, step = search.numbers(whole=takes_whole_numbers(plan.training, key))
    if isinstance(low, int):
        return IntDistribution(low, int(high), log=search.log, step=int(step or 1))
    return FloatDistribution(low, high, log=search.log, step=step)


def pick(trial: optuna.Trial, key: str, found: BaseDistribution) -> Setting:
    """Let a trial draw a setting from its range."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    match found:
        case CategoricalDistribution():
            choice: Setting = trial.suggest_categorical(key, found.choices)
            return choice
        case IntDistribution():
            return trial.suggest_int(key, found.low, found.high, step=found.step, log=found.log)
        case FloatDistribution():
            return trial.suggest_float(key, found.low, found.high, step=found.step, log=found.log)
    raise AssertionError(found)


def settings_within(settings: dict[str, Any], ranges: dict[str, BaseDistribution]) -> dict[str, Any]:
    """Return the settings that are within the ranges of the search; the sampler can use no others."""
    return {key: value for key, value in settings.items() if _could_be(value, ranges[key])}


def _could_be(value: Any, found: BaseDistribution) -> bool:
    from optuna.distributions import CategoricalDistribution

    if isinstance(found, CategoricalDistribution):
        return any(value == choice and type(value) is type(choice) for choice in found.choices)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return bool(found._contains(found.to_internal_repr(value)))  # Optuna itself only warns
