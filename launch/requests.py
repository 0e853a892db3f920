"""What can be launched: one typed request per pipeline."""

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
"""Steps of one kind that an orchestrator can keep in one run."""
_ROOT = Path(__file__).resolve().parents[1]
_SAMPLE = Path("configs/sample.yaml")


def _sample_config() -> Path:
    return _SAMPLE if _SAMPLE.exists() else _ROOT / _SAMPLE


class Request(BaseModel):
    """What every pipeline needs to know.

    Raises:
        pydantic.ValidationError: An unknown field, or a value that it does not take.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    pipeline: ClassVar[str]
    """Its name, as `--pipeline` takes it."""
    description: ClassVar[str]
    """What it does, in one line."""

    config: Path = Field(default_factory=_sample_config)
    """Use case, a YAML file (default: configs/sample.yaml)."""
    settings: tuple[str, ...] = ()
    """Override a setting of the use case, as training.epochs=5; repeatable."""
    stack: str | None = None
    """Stack for this run (default: the active one, or 'local')."""
    cache: bool = True
    """Whether a step whose inputs, settings and code have not changed keeps its last result."""
    schedule: Cron | None = None
    """On a stack with Airflow: run it then, as '15 6 * * *'; monitoring also retrains."""

    def load_config(self) -> Config:
        """Read the use case and apply the settings.

        Raises:
            ConfigError: With file and line, or the setting, and the fix.
        """
        return load_config(self.config, self.settings)


class TrainRequest(Request):
    """Train, gate and serve."""

    pipeline: ClassVar[str] = "training"
    description: ClassVar[str] = (
        "data -> validated -> split -> converted -> trained -> evaluated -> registered -> gated -> served (the default)"
    )

    tuned: bool = False
    """Train with the best settings of the newest tuning; what --set says wins."""


class ValidateRequest(Request):
    """Check a data set as training does."""

    pipeline: ClassVar[str] = "validation"
    description: ClassVar[str] = "data -> validated: stops where training would, for the CI of a data set"


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
    """Images to predict, in a folder or below s3://bucket/prefix (default: the unlabelled ones of the data set)."""
    output: str | None = None
    """Where the tables go: a folder or s3://bucket/prefix."""
    shards: int = 1
    """Number of steps that the images are cut into, which a cluster runs at once."""

    @field_validator("shards")
    @classmethod
    def _check_shards(cls, shards: int) -> int:
        if not 1 <= shards <= _MOST_SHARDS:
            raise ValueError(f"must be 1 to {_MOST_SHARDS}")
        return shards


class MonitorRequest(Request):
    """Look for drift, and train again where the policy says so."""

    pipeline: ClassVar[str] = "monitoring"
    description: ClassVar[str] = (
        "what the endpoint was asked and people labelled -> drift, performance -> decided -> told -> trained"
    )

    retrain: bool = False
    """Train again, whatever is found."""
    decide_only: bool = False
    """Decide, but send no alert and train nothing."""
    ignore_drills: bool = False
    """Leave what a drill sent out of the comparison, as monitoring.ignore_drills: true does."""

    def load_config(self) -> Config:
        """Read the use case, whose ``monitoring.ignore_drills`` the flag sets; the training that follows reads its own.

        Raises:
            ConfigError: As of any request.
        """
        flagged = ("monitoring.ignore_drills=true",) if self.ignore_drills else ()
        return load_config(self.config, (*self.settings, *flagged))


class DrillRequest(Request):
    """Send changed images to the endpoint, for monitoring to find.

    Raises:
        ConfigError: The severity has no meaning for the kind, or there are too few or too many images.
    """

    pipeline: ClassVar[str] = "drift-drill"
    description: ClassVar[str] = (
        "test images -> changed by --kind and --severity -> sent to the endpoint, for monitoring to find"
    )

    kind: Kind
    """What changes."""
    severity: float = Drill.model_fields["severity"].default
    """0 changes nothing, 1 is strong (half the light), at most 10; brightness below 0 is more light."""
    images: int = Drill.model_fields["images"].default
    """How many are sent."""

    @model_validator(mode="after")
    def _check(self) -> DrillRequest:
        self.drill()
        return self

    def drill(self) -> Drill:
        """What is sent."""
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
    """Go back to the champion before this one."""


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
"""Name of a pipeline to its request, in the order of use."""
