"""What the server answers and takes, for its OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field

from deploy.serving.roles import Role
from deploy.serving.settings import Placement

__all__ = [
    "EXPLAIN_RESPONSES",
    "IMAGE_BODY",
    "PREDICT_RESPONSES",
    "RELOAD_BODY",
    "UNLOAD_BODY",
    "AttributesAnswer",
    "ClassificationAnswer",
    "DetectionAnswer",
    "ExplainResponse",
    "ModelName",
    "PredictResponse",
    "ReloadRequest",
    "UnloadRequest",
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


_IDENTITY = {
    "model": {"name": "steel", "version": "3", "alias": "champion"},
    "image": {"width": 200, "height": 200},
}
_TIMING = {"timing_ms": {"decode": 0.8, "preprocess": 0.6, "inference": 14.2, "postprocess": 0.1, "total": 15.9}}
_LABEL = {"class_id": 1, "class_name": "defective", "confidence": 0.97}
_LABEL |= {"probabilities": {"ok": 0.03, "defective": 0.97}}
_BOX = {"class_id": 2, "class_name": "scratches", "confidence": 0.91, "box": [12.0, 40.5, 180.2, 66.0]}
_EXAMPLES = {
    "detection": {"value": _IDENTITY | {"detections": [_BOX]} | _TIMING},
    "classification": {"value": _IDENTITY | {"classification": _LABEL} | _TIMING},
    "attributes": {"value": _IDENTITY | {"attributes": {"surface": _LABEL}} | _TIMING},
}
PREDICT_RESPONSES: dict[int | str, dict[str, Any]] = {200: {"content": {"application/json": {"examples": _EXAMPLES}}}}
EXPLAIN_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": ExplainResponse,
        "description": "The image in grey, in colour what spoke for the answer; or the numbers.",
        "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
    },
    503: {"description": "No model, or another image is being explained: see the header Retry-After."},
}
IMAGE_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
RELOAD_BODY = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": ReloadRequest.model_json_schema()}}}
}
UNLOAD_BODY = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": UnloadRequest.model_json_schema()}}}
}
