"""What a trial of Optuna came to, in our words."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from visionops.tuning.result import Trial, TrialState

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

__all__ = ["importance_of", "record_of", "state_of", "value_of"]


def state_of(trial: FrozenTrial) -> TrialState:
    """Return how a trial ended; what is neither complete nor pruned has failed."""
    from optuna.trial import TrialState as Optunas

    states = {Optunas.COMPLETE: TrialState.COMPLETE, Optunas.PRUNED: TrialState.PRUNED}
    return states.get(trial.state, TrialState.FAILED)


def value_of(trial: FrozenTrial) -> float:
    """Return the value of a complete trial."""
    assert trial.value is not None  # of a complete trial
    return trial.value


def record_of(trial: FrozenTrial) -> Trial:
    """Return a trial as it is kept and shown."""
    state = state_of(trial)
    told = trial.user_attrs
    return Trial(
        number=trial.number,
        state=state,
        settings=told["settings"],
        value=trial.value if state is TrialState.COMPLETE else None,
        curve=trial.intermediate_values,
        seconds=told.get("seconds", 0.0),
        is_default="default" in told,
        note=told.get("note", ""),
    )


def importance_of(trials: list[FrozenTrial], seed: int) -> dict[str, float]:
    """Return the share of each setting in how trials differ; empty where there are too few to say.

    By fANOVA (Hutter, Hoos and Leyton-Brown, An efficient approach for assessing hyperparameter importance, 2014).
    """
    import optuna

    complete = [trial for trial in trials if state_of(trial) is TrialState.COMPLETE]
    keys = {key for trial in complete for key in trial.params}
    study = optuna.create_study(direction="maximize")
    study.add_trials([trial for trial in complete if set(trial.params) == keys])
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    with contextlib.suppress(RuntimeError, ValueError):  # too few trials, or all of one value
        return optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {}
