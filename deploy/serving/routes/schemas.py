"""What the server answers and takes, for its OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field

from deploy.serving.models.roles import Breach, Role
from deploy.serving.routes.tensors import TensorSpec
from deploy.serving.settings import Placement
from visionops.inference.bundle import Head, Thresholds
from visionops.inference.calibration import Calibration
from visionops.inference.preprocessing_spec import PreprocessingSpec
from visionops.inference.settings import Engine, Precision, Task

__all__ = [
    "AttributesAnswer",
    "BatchResponse",
    "ClassificationAnswer",
    "DetectionAnswer",
    "ErrorAnswer",
    "ExplainResponse",
    "HealthAnswer",
    "InferResponse",
    "LiveAnswer",
    "ModelAnswer",
    "ModelMetadata",
    "ModelName",
    "ModelReadyAnswer",
    "NameStatus",
    "PredictResponse",
    "ReadyAnswer",
    "ReadyModel",
    "ReloadAnswer",
    "ReloadRequest",
    "ServerMetadata",
    "UnloadRequest",
    "V2Error",
]


ModelName = Annotated[str, Query(max_length=128, description="which model; the default one where there is none")]
"""The parameter `model` of a request."""


class ModelIdentity(BaseModel):
    """Which model answered."""

    name: str
    version: str
    alias: str


class ImageSize(BaseModel):
    """Pixels after EXIF rotation."""

    width: int
    height: int


class Detection(BaseModel):
    """One found object."""

    class_id: int
    class_name: str
    confidence: float
    box: tuple[float, float, float, float] = Field(description="x1, y1, x2, y2 in pixels of the image")


class Label(BaseModel):
    """The answer to one question about the image."""

    class_id: int
    class_name: str
    confidence: float = Field(description="probability of the class answered")
    probabilities: dict[str, float]


class Timing(BaseModel):
    """Milliseconds."""

    decode: float
    preprocess: float
    inference: float
    postprocess: float
    total: float


class _Answer(BaseModel):
    model: ModelIdentity
    image: ImageSize
    timing_ms: Timing


class DetectionAnswer(_Answer):
    """What a detector answers."""

    detections: list[Detection]


class ClassificationAnswer(_Answer):
    """What a classifier answers."""

    classification: Label


class AttributesAnswer(_Answer):
    """What a model of several attributes answers."""

    attributes: dict[str, Label]


PredictResponse = DetectionAnswer | ClassificationAnswer | AttributesAnswer
"""What `/predict` answers."""


class Problem(BaseModel):
    """What is wrong."""

    code: str = Field(description="for programs: it stays when the message changes")
    message: str = Field(description="one line: the place and the mend")


class ErrorAnswer(BaseModel):
    """What is answered instead of a result."""

    error: Problem


class BatchResponse(BaseModel):
    """What `/predict/batch` answers."""

    results: list[PredictResponse | ErrorAnswer] = Field(
        description="in the order sent; of each image what /predict answers, an error body too"
    )


class HealthAnswer(BaseModel):
    """The process lives."""

    status: Literal["live"]


class LoadFailure(BaseModel):
    """Why a model could not be loaded."""

    version: str
    role: Role
    code: str
    message: str
    time: str = Field(description="ISO 8601, UTC")


class CanaryReturn(BaseModel):
    """Why a canary was sent away."""

    version: str
    reason: Breach
    message: str
    time: str = Field(description="ISO 8601, UTC")


class Readiness(BaseModel):
    """Whether the models of one name answer."""

    name: str
    ready: bool
    last_failure: LoadFailure | None = None


class LastImages(BaseModel):
    """How a model did on its last images."""

    images: int
    error_rate: float
    median_ms: float


class RoleAnswer(ModelIdentity):
    """A model in its role."""

    digest: str
    last_images: LastImages
    share: float | None = Field(default=None, description="of a canary; so are its bounds")
    max_error_rate: float | None = None
    max_latency_ratio: float | None = None
    min_requests: int | None = None


class NameStatus(BaseModel):
    """The models of one name."""

    name: str
    default: bool = Field(description="whether it answers requests that name none")
    ready: bool
    roles: dict[Role, RoleAnswer]
    last_failure: LoadFailure | None
    last_return: CanaryReturn | None


class Description(ModelIdentity):
    """A model's card, and how it is run."""

    task: Task
    architecture: str
    classes: list[str]
    heads: list[Head] | None = Field(default=None, description="of labels")
    thresholds: Thresholds | None = Field(default=None, description="of a detector")
    metrics: dict[str, float] = Field(description="on the test split")
    data_fingerprint: str = Field(description="of the data version it learnt from")
    preprocessing: PreprocessingSpec
    precision: Precision
    engine: Engine
    calibration: Calibration
    digest: str
    max_upload_bytes: int


class ModelAnswer(NameStatus, Description):
    """What `/model` answers."""


class ReloadAnswer(Description):
    """What `/reload` answers."""

    role: Role


class ReadyModel(BaseModel):
    """There is a model to answer with."""

    status: Literal["ready"]
    model: ModelIdentity | None = Field(default=None, description="for clients it knows")
    models: list[Readiness] | None = Field(default=None, description="of each name: for clients it knows")
    serves: str | None = Field(default=None, description="whom: for clients it knows")
    prediction_log: str | None = Field(
        default=None, description="ok, or what is wrong with it; where there is one, for clients it knows"
    )


class ServerMetadata(BaseModel):
    """What the server is, as the Open Inference Protocol has it."""

    name: str
    version: str
    extensions: list[str]


class LiveAnswer(BaseModel):
    """The process lives."""

    live: bool


class ReadyAnswer(BaseModel):
    """There is a model to answer with."""

    ready: bool


class ModelReadyAnswer(BaseModel):
    """This model can answer."""

    name: str
    ready: bool


class ModelMetadata(BaseModel):
    """What a model takes and answers."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]


class OutputTensor(BaseModel):
    """An output: with its data, or with the size of its part of the binary data."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, int] | None = None
    data: list[float | str] | None = None


class InferResponse(BaseModel):
    """What `/infer` answers."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


class V2Error(BaseModel):
    """What the Open Inference Protocol answers instead of a result."""

    error: str


class SaliencyGrid(BaseModel):
    """Where the answer comes from."""

    box: tuple[float, float, float, float] = Field(description="what the grid covers: x1, y1, x2, y2 in pixels")
    grid: list[list[float]] = Field(
        description="rows from the top: by how much the log-odds of the answer fall when the patch there is covered"
    )


class TotalTime(BaseModel):
    """Milliseconds."""

    total: float


class ExplainResponse(BaseModel):
    """What `/explain` answers as JSON; beside it stands the answer itself, as `/predict` has it."""

    model: ModelIdentity
    image: ImageSize
    detections: list[Detection] | None = None
    classification: Label | None = None
    attributes: dict[str, Label] | None = None
    saliency: SaliencyGrid
    timing_ms: TotalTime


class ReloadRequest(Placement):
    """Which model to load, and into which role."""

    smoke: tuple[Base64Bytes, ...] = Field(default=(), max_length=16)
    """Encoded images that the new model must answer before it gets traffic."""

    def placement(self) -> Placement:
        """Without the images."""
        return Placement.model_validate(self.model_dump(exclude={"smoke"}))


class UnloadRequest(BaseModel):
    """Which model to take away."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=128)
    role: Role = Role.CHAMPION
