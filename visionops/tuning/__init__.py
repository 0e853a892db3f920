"""The search for better training settings: an Optuna study, or an explicit grid, that survives an interruption.

    visionops_home()/tuning/<use case>-<key>/
    ├── study.db         every trial, as Optuna keeps it (not with `tuning.storage`)
    ├── result/          tuning.json, report.html and its pictures
    └── machine          which RUNNING trials of a shared storage are ours

A trial trains where `training_folder` of its settings is, so that one cut short goes on where it was, and training with
the best settings finds its work done. The folders of the losers are removed.
"""

from __future__ import annotations

from visionops.tuning.report import setting_text, settings_text
from visionops.tuning.result import Setting, Trial, TrialState, TuningResult
from visionops.tuning.search import TuningLog, require_search, tune, tuning_folder

__all__ = [
    "Setting",
    "Trial",
    "TrialState",
    "TuningLog",
    "TuningResult",
    "require_search",
    "setting_text",
    "settings_text",
    "tune",
    "tuning_folder",
]
