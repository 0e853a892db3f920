"""`ModelBundle`: all files that serve a model, in one directory.

    model.onnx           the graph
    model.int8.xml       the same in 8-bit integers, as OpenVINO IR (after quantization),
    model.int8.bin       and its weights
    bundle.json          the card: task, classes in order, preprocessing, thresholds, metrics, data version, digests
    checkpoint.pt        checkpoint for resuming the training (not needed to serve)
    reference.parquet    the drift reference (after monitoring has made one)

The card carries the SHA-256 of every other file, and `ModelBundle.load` checks them before anything is used.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from visionops.errors import BundleError
from visionops.inference.preprocessing_spec import PreprocessingSpec
from visionops.inference.record_rules import RecordRules
from visionops.inference.settings import Precision
from visionops.inference.task_registry import TaskName, served_task

__all__ = ["BUNDLE_VERSION", "BundleCard", "Decode", "Head", "ModelBundle", "Thresholds"]

BUNDLE_VERSION = 1
_CARD = "bundle.json"
_MODEL = "model.onnx"
_INT8_MODEL = "model.int8.xml"
_INT8_WEIGHTS = "model.int8.bin"


class Decode(enum.StrEnum):
    """Meaning of the graph's outputs, in the bundles of built-in tasks."""

    YOLO = "yolo"
    """(1, 4 + classes, anchors): cx, cy, w, h in input pixels and class scores; needs NMS."""
    YOLO_END2END = "yolo_end2end"
    """(1, N, 6): x1, y1, x2, y2 in input pixels, score, class; NMS is not needed."""
    LOGITS = "logits"
    """(1, classes of all heads): logits, head after head in the card's order. The second output, (1, D), is the
    backbone's pooled features, used as embedding."""


class Head(BaseModel):
    """A question about an image: an attribute, its classes, and how the answer is chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    class_names: tuple[str, ...] = Field(min_length=2)
    positive: str | None = None
    """Positive class of two ("defective"), to whose probability the threshold applies."""
    threshold: float | None = Field(default=None, ge=0, le=1)
    """Probability from which the positive class is the answer; None selects the most probable class."""
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Temperature that divides the logits before the softmax (Guo et al., On calibration of modern neural networks,
    2017)."""

    @model_validator(mode="after")
    def _agree(self) -> Head:
        if len(set(self.class_names)) < len(self.class_names):
            raise ValueError(f"head {self.name!r} names a class twice")
        if self.positive is not None and (self.positive not in self.class_names or len(self.class_names) != 2):
            raise ValueError(f"head {self.name!r}: {self.positive!r} is not one of two classes")
        if self.threshold is not None and self.positive is None:
            raise ValueError(f"head {self.name!r} has a threshold but no positive class")
        return self


class Thresholds(BaseModel):
    """Thresholds of detections."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    confidence: float = Field(default=0.25, ge=0, le=1)
    iou: float = Field(default=0.7, ge=0, le=1)
    max_detections: int = Field(default=300, ge=1)


class BundleCard(BaseModel):
    """Content of `bundle.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle_version: int = BUNDLE_VERSION
    task: TaskName
    name: str
    architecture: str
    class_names: tuple[str, ...] = Field(min_length=1)
    """Classes of boxes or of a classification; for attributes, ``attribute=class`` for each column of the logits."""
    heads: tuple[Head, ...] = ()
    """Heads of a classification (one) or of attributes, in the order of the logits. Empty for a detector."""
    preprocessing: PreprocessingSpec
    decode: Annotated[str, AfterValidator(str)]
    """Meaning of the graph's outputs: a `Decode`, or a name defined by another task."""
    thresholds: Thresholds = Thresholds()
    precision: Precision = Precision.F32
    metrics: dict[str, float] = Field(default_factory=dict)
    data_fingerprint: str = ""
    training: dict[str, Any] = Field(default_factory=dict)
    """Settings of the trainer, for information only; serving does not use them."""
    records: RecordRules = RecordRules()
    """Additional columns in records of its predictions, in the reference and in the log."""
    files: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of each file, lower-case hex, keyed by file name."""

    @model_validator(mode="after")
    def _agree(self) -> BundleCard:
        served_task(self.task).check_card(self)
        return self

    @model_serializer(mode="wrap")
    def _write(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out empty rules, so that the digest of a bundle without rules does not change."""
        card: dict[str, Any] = write(self)
        if self.records == RecordRules():
            card.pop("records", None)
        return card


@dataclasses.dataclass(frozen=True)
class ModelBundle:
    """A verified bundle directory with its card."""

    folder: Path
    card: BundleCard

    @property
    def model_path(self) -> Path:
        """Return the path of the served graph for the card's precision: ONNX, or OpenVINO IR for INT8."""
        return self.folder / _graph_files(self.card.precision)[0]

    @functools.cached_property
    def digest(self) -> str:
        """Return the identity of the bundle: SHA-256 over the card, which has the digest of every file."""
        return hashlib.sha256(self.card.model_dump_json().encode()).hexdigest()

    def in_precision(self, precision: Precision) -> ModelBundle:
        """Return the bundle with another precision, such as f32 of a quantized bundle for a comparison.

        Raises:
            BundleError: It has no graph for that precision.
        """
        for name in _graph_files(precision):
            if name not in self.card.files:
                raise BundleError(f"{self.folder}: has no {name}; run --pipeline quantize first")
        return dataclasses.replace(self, card=self.card.model_copy(update={"precision": precision}))

    @classmethod
    def create(cls, folder: Path, card: BundleCard) -> ModelBundle:
        """Seal ``folder``, which holds ``model.onnx``: hash its files and write the card last.

        Raises:
            BundleError: ``model.onnx``, or the graph for the card's precision, is missing.
        """
        for name in (_MODEL, *_graph_files(card.precision)):
            if not (folder / name).is_file():
                raise BundleError(f"{folder}: has no {name}; export the model first")
        files = {p.name: _sha256(p) for p in sorted(folder.iterdir()) if p.is_file() and p.name != _CARD}
        sealed = card.model_copy(update={"files": files})
        (folder / _CARD).write_text(sealed.model_dump_json(indent=1), encoding="utf-8")
        return cls(folder, sealed)

    @classmethod
    def load(cls, folder: Path) -> ModelBundle:
        """Open a bundle and check every file against its digest.

        Raises:
            BundleError: A file is missing, changed, or the card cannot be read by this version.
        """
        try:
            raw = json.loads((folder / _CARD).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise BundleError(f"{folder}: has no {_CARD}, so it is not a model bundle") from error
        except (OSError, ValueError) as error:
            raise BundleError(f"{folder / _CARD}: cannot be read ({error})") from error
        version = raw.get("bundle_version") if isinstance(raw, dict) else None
        if version != BUNDLE_VERSION:
            raise BundleError(
                f"{folder / _CARD}: version {version!r}, this VisionOps reads {BUNDLE_VERSION}; train again"
            )
        try:
            card = BundleCard.model_validate(raw)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise BundleError(f"{folder / _CARD}: {place}: {first['msg'].removeprefix('Value error, ')}") from error
        for name in (_MODEL, *_graph_files(card.precision)):
            if name not in card.files:
                raise BundleError(f"{folder / _CARD}: {name} is missing in its list of files")
        for name, expected in card.files.items():
            path = folder / name
            if Path(name).name != name:
                raise BundleError(f"{folder / _CARD}: file name {name!r} leaves the bundle")
            if not path.is_file():
                raise BundleError(f"{path}: listed in {_CARD} but missing; fetch the bundle again")
            if _sha256(path) != expected:
                raise BundleError(f"{path}: sha256 differs from {_CARD}, the file is corrupt; fetch the bundle again")
        return cls(folder, card)


def _graph_files(precision: Precision) -> tuple[str, ...]:
    """Return the files that the engine reads, the graph first."""
    return (_INT8_MODEL, _INT8_WEIGHTS) if precision is Precision.INT8 else (_MODEL,)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
