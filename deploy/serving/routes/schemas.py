"""Schemas of requests and responses, for the OpenAPI document."""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal, Union

from fastapi import Query
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, create_model

from deploy.serving.models.modes import ModeStatus
from deploy.serving.models.roles import Breach, ModelRole
from deploy.serving.settings import Placement
from visionops.inference.bundle import Head, Thresholds
from visionops.inference.preprocessing_spec import PreprocessingSpec
from visionops.inference.settings import EngineName, Precision
from visionops.inference.task import ServedTask, TensorSpec
from visionops.inference.task_registry import all_tasks
from visionops.review.checks import MOST_COMMENT, MOST_NAME

__all__ = [
    "ErrorAnswer",
    "HealthAnswer",
    "HomeAnswer",
    "InferResponse",
    "LiveAnswer",
    "ModelAnswer",
    "ModelMetadata",
    "ModelName",
    "ModelReadyAnswer",
    "NameStatus",
    "ReadyAnswer",
    "ReadyModel",
    "ReloadAnswer",
    "ReloadRequest",
    "ServerMetadata",
    "UnloadRequest",
    "V2Error",
    "answer_model",
    "batch_response",
    "explain_response",
    "predict_response",
]


ModelName = Annotated[str, Query(max_length=128, description="name of the model; the default model if absent")]
"""The parameter `model` of a request."""


class ModelIdentity(BaseModel):
    """Model that answered."""

    name: str
    version: str
    alias: str


class ImageSize(BaseModel):
    """Pixels after EXIF rotation."""

    width: int
    height: int


class Timing(BaseModel):
    """Milliseconds of each stage."""

    decode: float
    preprocess: float
    inference: float
    postprocess: float
    total: float


class _Answer(BaseModel):
    model: ModelIdentity
    image: ImageSize
    timing_ms: Timing


def answer_model(task: ServedTask[Any]) -> type[BaseModel]:
    """Return the schema of a prediction for a task."""
    return _with_identity(task.answer)


@functools.cache
def _with_identity(answer: type[BaseModel]) -> type[BaseModel]:
    return create_model(answer.__name__, __base__=(answer, _Answer), __doc__=answer.__doc__)


def predict_response() -> Any:
    """Return the response type of `/predict`: a union with one type per registered task."""
    return Union[tuple(answer_model(task) for task in all_tasks())]  # noqa: UP007 - made of a tuple


class Problem(BaseModel):
    """Code and message of an error."""

    code: str = Field(description="stable code for programs; the message may change")
    message: str = Field(description="one line with the place and the fix")


class ErrorAnswer(BaseModel):
    """Response to a failed request."""

    error: Problem


def batch_response() -> type[BaseModel]:
    """Return the response type of `/predict/batch`."""
    description = "in the order sent; for each image the response of /predict, or its error body"
    one: Any = predict_response() | ErrorAnswer
    fields: dict[str, Any] = {"results": (list[one], Field(description=description))}
    return create_model("BatchResponse", __doc__="Response of `/predict/batch`.", **fields)


class HealthAnswer(BaseModel):
    """The process is running."""

    status: Literal["live"]


class LoadFailure(BaseModel):
    """Error of a model that could not be loaded."""

    version: str
    role: ModelRole
    code: str
    message: str
    time: str = Field(description="ISO 8601, UTC")


class CanaryReturn(BaseModel):
    """Reason why a canary was withdrawn."""

    version: str
    reason: Breach
    message: str
    time: str = Field(description="ISO 8601, UTC")


class Readiness(BaseModel):
    """Whether the name has a ready model."""

    name: str
    ready: bool
    last_failure: LoadFailure | None = None


class LastImages(BaseModel):
    """Results of a model's last images."""

    images: int
    error_rate: float
    median_ms: float
    compared_images: int | None = Field(default=None, description="for a canary with min_agreement")
    agreement: float | None = Field(default=None, description="mean agreement with the champion on these")


class RoleAnswer(ModelIdentity):
    """A model with its role's settings."""

    digest: str
    last_images: LastImages
    share: float | None = Field(default=None, description="for a canary, as are its bounds")
    max_error_rate: float | None = None
    max_latency_ratio: float | None = None
    min_agreement: float | None = None
    min_requests: int | None = None


class NameStatus(BaseModel):
    """The models of one name."""

    name: str
    default: bool = Field(description="whether it answers requests that name no model")
    ready: bool
    roles: dict[ModelRole, RoleAnswer]
    last_failure: LoadFailure | None
    last_return: CanaryReturn | None


class Description(ModelIdentity):
    """Model card, and how the model runs."""

    task: str
    architecture: str
    classes: list[str]
    heads: list[Head] | None = Field(default=None, description="for models that predict labels")
    thresholds: Thresholds | None = Field(default=None, description="for detectors")
    metrics: dict[str, float] = Field(description="metrics on the test split")
    data_fingerprint: str = Field(description="fingerprint of the training data")
    preprocessing: PreprocessingSpec
    precision: Precision
    engine: EngineName
    mode: ModeStatus
    digest: str
    max_upload_bytes: int


class ModelAnswer(NameStatus, Description):
    """Response of `/model`."""


class ServedName(BaseModel):
    """A served name: its champion, and its counts."""

    name: str
    default: bool = Field(description="whether it answers requests that name no model")
    ready: bool
    version: str | None = Field(default=None, description="of the champion, like the next fields up to `last_images`")
    alias: str | None = None
    task: str | None = None
    architecture: str | None = None
    classes: list[str] | None = None
    confidence: float | None = Field(default=None, description="for a detector: least confidence of an answer")
    since: str | None = Field(default=None, description="time when it was loaded: ISO 8601, UTC")
    max_upload_bytes: int | None = None
    last_images: LastImages | None = None
    beside: dict[ModelRole, str] = Field(description="versions of canary and shadow")
    last_failure: LoadFailure | None = None
    answered: int = Field(description="answered images since the server started, by any version")
    failed: int = Field(description="images on which a model failed")
    found: dict[str, int] = Field(description="number of predictions of each class")


class HomeAnswer(BaseModel):
    """Response of `GET /`: the server and its models."""

    name: Literal["VisionOps"]
    version: str = Field(description="version of the server")
    started: str = Field(description="start of the server and of all counts: ISO 8601, UTC")
    serves: str = Field(description="which clients the server accepts")
    models: list[ServedName] = Field(description="served names, the default first")
    waiting: int = Field(description="images in the queue")
    rejected: dict[str, int] = Field(description="refused requests by reason")
    links: dict[str, str] = Field(
        description="links relative to this address, and `source` if the server names its source code"
    )


class ReloadAnswer(Description):
    """Response of `/reload`."""

    role: ModelRole


class ReadyModel(BaseModel):
    """A model is ready."""

    status: Literal["ready"]
    model: ModelIdentity | None = Field(default=None, description="for authenticated clients")
    models: list[Readiness] | None = Field(default=None, description="state of each name, for authenticated clients")
    serves: str | None = Field(default=None, description="which clients the server accepts, for authenticated clients")
    prediction_log: str | None = Field(
        default=None, description="ok or the problem of the log, if there is one, for authenticated clients"
    )
    feedback_log: str | None = Field(default=None, description="problem of the log, for authenticated clients")


class FeedbackRequest(BaseModel):
    """Feedback on a prediction: JSON with a request id, or the fields of a form with an image."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="`X-Request-ID` of the response; for an image of a batch, followed by /1, /2, …",
    )
    label: dict[str, Any] | None = Field(
        default=None, description="the correct label in the task's format; JSON text if sent as a form"
    )
    comment: str = Field(default="", max_length=MOST_COMMENT)
    key: str = Field(default="", max_length=MOST_NAME, description="key of the feedback, instead of `Idempotency-Key`")


class FeedbackAnswer(BaseModel):
    """The feedback is stored and will become a review item."""

    item: str = Field(description="id of the review item")
    use_case: str
    sha256: str = Field(description="SHA-256 of the image")
    known: bool = Field(description="whether the same feedback was stored before")


class ServerMetadata(BaseModel):
    """Server metadata of the Open Inference Protocol."""

    name: str
    version: str
    extensions: list[str]


class LiveAnswer(BaseModel):
    """The process is running."""

    live: bool


class ReadyAnswer(BaseModel):
    """A model is ready."""

    ready: bool


class ModelReadyAnswer(BaseModel):
    """The model is ready."""

    name: str
    ready: bool


class ModelMetadata(BaseModel):
    """Inputs and outputs of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]


class OutputTensor(BaseModel):
    """An output, with its data or with the size of its part of the binary data."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, int] | None = None
    data: list[float | str] | None = None


class InferResponse(BaseModel):
    """Response of `/infer`."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


class V2Error(BaseModel):
    """Error response of the Open Inference Protocol."""

    error: str


class SaliencyGrid(BaseModel):
    """Importance of each image patch for the answer."""

    box: tuple[float, float, float, float] = Field(description="area of the grid: x1, y1, x2, y2 in pixels")
    grid: list[list[float]] = Field(
        description="rows from the top: decrease of the answer's log-odds when the patch is covered"
    )


class TotalTime(BaseModel):
    """Total milliseconds."""

    total: float


def explain_response() -> type[BaseModel]:
    """Return the JSON response type of `/explain`: the saliency, and the answer as in `/predict`."""
    found = {name: field.annotation for task in all_tasks() for name, field in task.answer.model_fields.items()}
    fields: dict[str, Any] = {"model": (ModelIdentity, ...), "image": (ImageSize, ...)}
    fields |= {name: (annotation | None, None) for name, annotation in found.items()}  # type: ignore[operator]
    fields |= {"saliency": (SaliencyGrid, ...), "timing_ms": (TotalTime, ...)}
    doc = "JSON response of `/explain`: the saliency, and the answer as in `/predict`."
    return create_model("ExplainResponse", __doc__=doc, **fields)


class ReloadRequest(Placement):
    """Request to load a model into a role."""

    smoke: tuple[Base64Bytes, ...] = Field(default=(), max_length=16)
    """Encoded images of the smoke test, which the new model must pass before it gets requests."""

    def placement(self) -> Placement:
        """Return the placement without the images."""
        return Placement.model_validate(self.model_dump(exclude={"smoke"}))


class UnloadRequest(BaseModel):
    """Request to remove a model from its role."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=128)
    role: ModelRole = ModelRole.CHAMPION
