"""Settings of a use case's name, its computing engine, and its serving."""

from __future__ import annotations

import enum
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from visionops.addresses import check_store
from visionops.inference.release_settings import ReleaseConfig
from visionops.inference.task_registry import TaskName
from visionops.settings import Settings

__all__ = ["DEFAULT_MAX_PIXELS", "Device", "EngineName", "Precision", "ServingConfig", "UseCase"]

DEFAULT_MAX_PIXELS = 100_000_000
"""Largest accepted width x height: 100 megapixels, 300 MB decoded."""


class UseCase(Settings):
    """Task of a use case, and the name under which its models are registered and served."""

    name: str
    task: TaskName


class EngineName(enum.StrEnum):
    """Engine that runs `model.onnx`."""

    OPENVINO = "openvino"
    ONNXRUNTIME = "onnxruntime"


class Device(enum.StrEnum):
    """Device of the engine."""

    CPU = "cpu"
    GPU = "gpu"
    """Intel's by OpenVINO, NVIDIA's by ONNX Runtime. A missing GPU is refused, and never replaced by the CPU."""


class Precision(enum.StrEnum):
    """Arithmetic of the engine. Explicit, because OpenVINO silently uses bf16 where the CPU has it."""

    F32 = "f32"
    BF16 = "bf16"
    INT8 = "int8"
    """8-bit integers where quantization introduced them, f32 elsewhere; in another graph, `model.int8.xml`."""


class ServingConfig(Settings):
    """How the champion is served."""

    engine: EngineName = EngineName.OPENVINO
    """What runs the model's graph."""
    device: Device = Device.CPU
    """Device of the endpoint. Training and evaluation always use the CPU's engine."""
    precision: Precision = Precision.F32
    """Precision of bundles from training; `int8` requires `--pipeline quantize`."""
    confidence: float = Field(default=0.25, ge=0, le=1)
    """Lowest score of a detection that is answered. Labels have thresholds of their own in the bundle."""
    iou: float = Field(default=0.7, ge=0, le=1)
    """Overlap (IoU) of two boxes of a class above which NMS drops the weaker one."""
    max_upload_bytes: int = Field(default=20_000_000, ge=1)
    """Largest accepted image file."""
    port: int | None = Field(default=None, ge=0, le=65535)
    """Port of the endpoint; 0: any free port. Without it 8000, or any free port if another program uses 8000."""
    prediction_log: bool = True
    """Record requests and answers, which `--pipeline monitoring` reads."""
    prediction_log_images: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)
    """Share of the requests whose images are stored, too, for labelling when traffic changes."""
    prediction_log_store: Annotated[str, AfterValidator(check_store)] | None = None
    """Store of the log beside its folder: `s3://bucket/prefix`, or `postgresql://user@host/database`."""
    release: ReleaseConfig = ReleaseConfig()
    """How a promoted challenger is released."""

    @model_validator(mode="after")
    def _train_in_float(self) -> ServingConfig:
        if self.precision is Precision.INT8:
            raise ValueError("precision: training does not support int8; train in f32, then run --pipeline quantize")
        return self
