"""Define one typed request per pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from visionops.config import Config, load_config
from visionops.monitoring.drill import Drill
from visionops.monitoring.simulate import Kind
from visionops.schedules import Cron

__all__ = [
    "REQUESTS",
    "BatchRequest",
    "DeployRequest",
    "DrillRequest",
    "MonitorRequest",
    "QuantizeRequest",
    "Request",
    "TrainRequest",
    "TuneRequest",
    "ValidateRequest",
]

_MOST_SHARDS = 1000
"""Maximum number of parallel steps of one kind in a run."""
_ROOT = Path(__file__).resolve().parents[1]
_SAMPLE = Path("configs/sample.yaml")


def _sample_config() -> Path:
    return _SAMPLE if _SAMPLE.exists() else _ROOT / _SAMPLE


class Request(BaseModel):
    """Parameters of every pipeline.

    Raises:
        pydantic.ValidationError: A field is unknown, or its value is invalid.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    pipeline: ClassVar[str]
    """Name of the pipeline for `--pipeline`."""
    description: ClassVar[str]
    """Description of the pipeline in one line."""

    config: Path = Field(default_factory=_sample_config)
    """Use case, a YAML file (default: configs/sample.yaml)."""
    settings: tuple[str, ...] = ()
    """Override a setting of the use case, for example training.epochs=5; repeatable."""
    stack: str | None = None
    """Stack for this run (default: the active one, or 'local')."""
    cache: bool = True
    """Whether steps with unchanged inputs, settings and code reuse their last result."""
    schedule: Cron | None = None
    """Cron expression for a stack with Airflow, for example '15 6 * * *'; monitoring also retrains."""

    def load_config(self) -> Config:
        """Read the use case and apply the settings.

        Raises:
            ConfigError: The use case is invalid; the message has the file and line or the setting, and the fix.
        """
        return load_config(self.config, self.settings)


class TrainRequest(Request):
    """Train, gate and serve."""

    pipeline: ClassVar[str] = "training"
    description: ClassVar[str] = (
        "data -> validated -> split -> converted -> trained -> evaluated -> registered -> gated -> served (the default)"
    )

    tuned: bool = False
    """Train with the best settings of the newest tuning; --set overrides them."""


class ValidateRequest(Request):
    """Check a data set as training does."""

    pipeline: ClassVar[str] = "validation"
    description: ClassVar[str] = "data -> validated: fails if training would stop, for the CI of a data set"


class TuneRequest(Request):
    """Search for better training settings."""

    pipeline: ClassVar[str] = "tuning"
    description: ClassVar[str] = (
        "data -> validated -> split -> converted -> many trainings -> the best settings, for --tuned"
    )


class BatchRequest(Request):
    """Predict a folder of images."""

    pipeline: ClassVar[str] = "batch_inference"
    description: ClassVar[str] = (
        "the champion's predictions for a folder, or for the data's unlabelled images, as tables"
    )

    input: str | None = None
    """Folder of images to predict, or s3://bucket/prefix (default: the unlabelled images of the data set)."""
    output: str | None = None
    """Destination of the tables: a folder or s3://bucket/prefix."""
    shards: int = 1
    """Number of steps that share the images and that a cluster runs in parallel."""

    @field_validator("shards")
    @classmethod
    def _check_shards(cls, shards: int) -> int:
        if not 1 <= shards <= _MOST_SHARDS:
            raise ValueError(f"must be 1 to {_MOST_SHARDS}")
        return shards


class MonitorRequest(Request):
    """Look for drift, and train again if the policy says so."""

    pipeline: ClassVar[str] = "monitoring"
    description: ClassVar[str] = (
        "logged predictions and reviews -> drift, performance -> decided -> alerts sent -> trained"
    )

    retrain: bool = False
    """Train again, whatever monitoring finds."""
    decide_only: bool = False
    """Decide, but send no alert and train nothing."""
    ignore_drills: bool = False
    """Exclude images of drills from the comparison, like monitoring.ignore_drills: true."""

    def load_config(self) -> Config:
        """Read the use case and set ``monitoring.ignore_drills`` from the flag, which a following training ignores.

        Raises:
            ConfigError: The use case is invalid.
        """
        flagged = ("monitoring.ignore_drills=true",) if self.ignore_drills else ()
        return load_config(self.config, (*self.settings, *flagged))


class DrillRequest(Request):
    """Send changed images to the endpoint, to test monitoring.

    Raises:
        ConfigError: The severity is invalid for the kind, or the number of images is too low or too high.
    """

    pipeline: ClassVar[str] = "drift-drill"
    description: ClassVar[str] = (
        "test images -> changed by --kind and --severity -> sent to the endpoint, to test monitoring"
    )

    kind: Kind
    """Kind of change."""
    severity: float = Drill.model_fields["severity"].default
    """Strength: 0 changes nothing, 1 is strong (half the light), at most 10; brightness below 0 is more light."""
    images: int = Drill.model_fields["images"].default
    """Number of images to send."""

    @model_validator(mode="after")
    def _check(self) -> DrillRequest:
        self.drill()
        return self

    def drill(self) -> Drill:
        """Return the settings of the drill."""
        return Drill(kind=self.kind, severity=self.severity, images=self.images)


class QuantizeRequest(Request):
    """Make an INT8 version of the champion."""

    pipeline: ClassVar[str] = "quantize"
    description: ClassVar[str] = "the champion -> INT8 -> evaluated -> registered -> gated by its loss -> served"


class DeployRequest(Request):
    """Serve the champion."""

    pipeline: ClassVar[str] = "deployment"
    description: ClassVar[str] = "serve the champion again; with --rollback, the champion before it"

    rollback: bool = False
    """Restore the previous champion."""


REQUESTS: dict[str, type[Request]] = {
    request.pipeline: request
    for request in (
        TrainRequest,
        ValidateRequest,
        TuneRequest,
        BatchRequest,
        MonitorRequest,
        DrillRequest,
        QuantizeRequest,
        DeployRequest,
    )
}
"""Requests by pipeline name, in the order of use."""
