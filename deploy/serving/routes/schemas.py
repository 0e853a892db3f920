"""What the server answers and takes, for its OpenAPI document."""

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


def answer_model(task: ServedTask[Any]) -> type[BaseModel]:
    """Return what a model of a task answers."""
    return _with_identity(task.answer)


@functools.cache
def _with_identity(answer: type[BaseModel]) -> type[BaseModel]:
    return create_model(answer.__name__, __base__=(answer, _Answer), __doc__=answer.__doc__)


def predict_response() -> Any:
    """Return what `/predict` answers: a type for each registered task."""
    return Union[tuple(answer_model(task) for task in all_tasks())]  # noqa: UP007 - made of a tuple


class Problem(BaseModel):
    """What is wrong."""

    code: str = Field(description="for programs: it stays when the message changes")
    message: str = Field(description="one line: the place and the mend")


class ErrorAnswer(BaseModel):
    """What is answered instead of a result."""

    error: Problem


def batch_response() -> type[BaseModel]:
    """Return what `/predict/batch` answers."""
    told = "in the order sent; of each image what /predict answers, an error body too"
    one: Any = predict_response() | ErrorAnswer
    fields: dict[str, Any] = {"results": (list[one], Field(description=told))}
    return create_model("BatchResponse", __doc__="What `/predict/batch` answers.", **fields)


class HealthAnswer(BaseModel):
    """The process lives."""

    status: Literal["live"]


class LoadFailure(BaseModel):
    """Why a model could not be loaded."""

    version: str
    role: ModelRole
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
    compared_images: int | None = Field(default=None, description="of a canary with min_agreement")
    agreement: float | None = Field(default=None, description="mean agreement with the champion on these")


class RoleAnswer(ModelIdentity):
    """A model in its role."""

    digest: str
    last_images: LastImages
    share: float | None = Field(default=None, description="of a canary; so are its bounds")
    max_error_rate: float | None = None
    max_latency_ratio: float | None = None
    min_agreement: float | None = None
    min_requests: int | None = None


class NameStatus(BaseModel):
    """The models of one name."""

    name: str
    default: bool = Field(description="whether it answers requests that name none")
    ready: bool
    roles: dict[ModelRole, RoleAnswer]
    last_failure: LoadFailure | None
    last_return: CanaryReturn | None


class Description(ModelIdentity):
    """A model's card, and how it is run."""

    task: str
    architecture: str
    classes: list[str]
    heads: list[Head] | None = Field(default=None, description="of labels")
    thresholds: Thresholds | None = Field(default=None, description="of a detector")
    metrics: dict[str, float] = Field(description="on the test split")
    data_fingerprint: str = Field(description="of the data version it learnt from")
    preprocessing: PreprocessingSpec
    precision: Precision
    engine: EngineName
    mode: ModeStatus
    digest: str
    max_upload_bytes: int


class ModelAnswer(NameStatus, Description):
    """What `/model` answers."""


class ServedName(BaseModel):
    """What answers under one name, and how it does."""

    name: str
    default: bool = Field(description="whether it answers requests that name none")
    ready: bool
    version: str | None = Field(default=None, description="of the champion, as all up to `last_images`")
    alias: str | None = None
    task: str | None = None
    architecture: str | None = None
    classes: list[str] | None = None
    confidence: float | None = Field(default=None, description="of a detector: the least of an answer")
    since: str | None = Field(default=None, description="when it was loaded: ISO 8601, UTC")
    max_upload_bytes: int | None = None
    last_images: LastImages | None = None
    beside: dict[ModelRole, str] = Field(description="versions of its canary and its shadow")
    last_failure: LoadFailure | None = None
    answered: int = Field(description="images since the server started, of every version")
    failed: int = Field(description="images that a model failed on")
    found: dict[str, int] = Field(description="how often each class was answered")


class HomeAnswer(BaseModel):
    """What is served, since when, and how it does."""

    name: Literal["VisionOps"]
    version: str = Field(description="of the server")
    started: str = Field(description="ISO 8601, UTC; what is counted, is counted since then")
    serves: str = Field(description="whom")
    models: list[ServedName] = Field(description="the default first")
    waiting: int = Field(description="images that wait for their turn")
    rejected: dict[str, int] = Field(description="requests that were refused, by reason")
    links: dict[str, str] = Field(description="relative to this address")


class ReloadAnswer(Description):
    """What `/reload` answers."""

    role: ModelRole


class ReadyModel(BaseModel):
    """There is a model to answer with."""

    status: Literal["ready"]
    model: ModelIdentity | None = Field(default=None, description="for clients it knows")
    models: list[Readiness] | None = Field(default=None, description="of each name: for clients it knows")
    serves: str | None = Field(default=None, description="whom: for clients it knows")
    prediction_log: str | None = Field(
        default=None, description="ok, or what is wrong with it; where there is one, for clients it knows"
    )
    feedback_log: str | None = Field(default=None, description="what is wrong with it, for clients it knows")


class FeedbackRequest(BaseModel):
    """What somebody says of a prediction: about a request id, or as the fields of a form with an image."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="`X-Request-ID` of the answer; of a batch, with /1, /2, …",
    )
    label: dict[str, Any] | None = Field(
        default=None, description="what is right, in the form of the task; in a form, JSON"
    )
    comment: str = Field(default="", max_length=MOST_COMMENT)
    key: str = Field(
        default="", max_length=MOST_NAME, description="the client's name for this feedback, as `Idempotency-Key`"
    )


class FeedbackAnswer(BaseModel):
    """The feedback is kept, and will be an item of the review."""

    item: str = Field(description="id of the item")
    use_case: str
    sha256: str = Field(description="of the image")
    known: bool = Field(description="whether the same feedback had come before")


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


def explain_response() -> type[BaseModel]:
    """Return what `/explain` answers as JSON: beside the saliency stands the answer itself, as `/predict` has it."""
    found = {name: field.annotation for task in all_tasks() for name, field in task.answer.model_fields.items()}
    fields: dict[str, Any] = {"model": (ModelIdentity, ...), "image": (ImageSize, ...)}
    fields |= {name: (annotation | None, None) for name, annotation in found.items()}  # type: ignore[operator]
    fields |= {"saliency": (SaliencyGrid, ...), "timing_ms": (TotalTime, ...)}
    told = "What `/explain` answers as JSON; beside it stands the answer itself, as `/predict` has it."
    return create_model("ExplainResponse", __doc__=told, **fields)


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
    role: ModelRole = ModelRole.CHAMPION
