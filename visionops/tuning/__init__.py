"""The search for better training settings: an Optuna study, or an explicit grid, that survives an interruption.

    visionops_home()/tuning/<use case>-<key>/
    ├── study.db         every trial, as Optuna keeps it (not with `tuning.storage`)
    ├── converted/       data sets of trials that change what the conversion reads, while the search runs
    ├── result/          tuning.json, report.html and its pictures
    └── machine          which RUNNING trials of a shared storage are ours

A trial trains where `training_folder` of its settings is, so that one cut short goes on where it was, and training with
the best settings finds its work done. The folders of the losers are removed.
"""
