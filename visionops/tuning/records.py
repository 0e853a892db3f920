"""Convert Optuna trials to our records."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from visionops.tuning.result import Trial, TrialState

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

__all__ = ["importance_of", "record_of", "state_of", "value_of"]


def state_of(trial: FrozenTrial) -> TrialState:
    """Return the state of a trial; a trial that is neither complete nor pruned has failed."""
    from optuna.trial import TrialState as Optunas

    states = {Optunas.COMPLETE: TrialState.COMPLETE, Optunas.PRUNED: TrialState.PRUNED}
    return states.get(trial.state, TrialState.FAILED)


def value_of(trial: FrozenTrial) -> float:
    """Return the value of a complete trial."""
    assert trial.value is not None  # complete trials have a value
    return trial.value


def record_of(trial: FrozenTrial) -> Trial:
    """Return a trial in the form that is stored and shown."""
    state = state_of(trial)
    attributes = trial.user_attrs
    return Trial(
        number=trial.number,
        state=state,
        settings=attributes["settings"],
        value=trial.value if state is TrialState.COMPLETE else None,
        curve=trial.intermediate_values,
        seconds=attributes.get("seconds", 0.0),
        is_default="default" in attributes,
        note=attributes.get("note", ""),
    )


def importance_of(trials: list[FrozenTrial], seed: int) -> dict[str, float]:
    """Return the importance of each setting for the differences between trials; empty where there are too few trials.

    By fANOVA (Hutter, Hoos and Leyton-Brown, An efficient approach for assessing hyperparameter importance, 2014).
    """
    import optuna

    complete = [trial for trial in trials if state_of(trial) is TrialState.COMPLETE]
    keys = {key for trial in complete for key in trial.params}
    study = optuna.create_study(direction="maximize")
    study.add_trials([trial for trial in complete if set(trial.params) == keys])
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    with contextlib.suppress(RuntimeError, ValueError):  # too few trials, or all with the same value
        return optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {}
