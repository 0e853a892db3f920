"""Search for better training settings with an Optuna study or an explicit grid; resumable after an interruption.

    visionops_home()/tuning/<use case>-<key>/
    ├── study.db         Optuna's database of all trials (not with `tuning.storage`)
    ├── converted/       data sets of trials with other conversion settings, while the search runs
    ├── result/          tuning.json, report.html and its pictures
    └── machine          identifies this machine's RUNNING trials in a shared storage

A trial trains in the `training_folder` of its settings. So an interrupted trial resumes there, and training with the
best settings finds the finished result. The folders of the other trials are removed.
"""
