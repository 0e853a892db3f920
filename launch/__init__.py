"""Start pipelines and read typed results, from any program.

>>> from pathlib import Path
>>> from launch import MonitorRequest, TrainRequest, launch
>>> trained = launch(TrainRequest(config=Path("configs/steel.yaml")))
>>> trained.gate.promote, trained.endpoint.url
(True, 'http://127.0.0.1:8000')
>>> launch(MonitorRequest(config=Path("configs/steel.yaml"))).retraining.action
<Action.NOTHING: 'nothing'>

The command lines `run.py` and `visionops`, the console, the HTTP service and schedulers all use this package.
Importing it is fast, because ZenML and the libraries of a pipeline are imported only when a request is launched.
"""

from __future__ import annotations

from launch.requests import (
    REQUESTS,
    BatchRequest,
    DeployRequest,
    DrillRequest,
    MonitorRequest,
    QuantizeRequest,
    Request,
    TrainRequest,
    TuneRequest,
    ValidateRequest,
)
from launch.service import launch
from launch.summary import ModelSummary, RunSummary

__all__ = [
    "REQUESTS",
    "BatchRequest",
    "DeployRequest",
    "DrillRequest",
    "ModelSummary",
    "MonitorRequest",
    "QuantizeRequest",
    "Request",
    "RunSummary",
    "TrainRequest",
    "TuneRequest",
    "ValidateRequest",
    "launch",
]
