"""Define the options of the prediction server, for its command line and its environment.

Deployers write a command line with `ServerOptions.to_arguments`, and the server reads it with `ServerOptions.parse`, so
both know the same options.

    >>> ServerOptions(port=0, open_ready=True).to_arguments()
    ['--port', '0', '--open-ready', 'true']
    >>> ServerOptions.parse(["--port", "0", "--open-ready"]) == ServerOptions(port=0, open_ready=True)
    True
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    model_validator,
)

from visionops.addresses import check_store
from visionops.inference.release_settings import ReleaseConfig
from visionops.inference.settings import DEFAULT_MAX_PIXELS, Device, EngineName, ServingConfig
from visionops.options import CommandOptions, comma_separated, flag, variable

__all__ = [
    "ADMIN_KEY_VARIABLE",
    "API_KEYS_VARIABLE",
    "SERVER_MODULE",
    "ModelOptions",
    "ModelRef",
    "ServerOptions",
]

SERVER_MODULE = "deploy.serving"
"""Module that ``python -m`` starts."""


ADMIN_KEY_VARIABLE = variable("admin_key")
API_KEYS_VARIABLE = variable("api_keys")


def _from_json(value: object) -> object:
    """Return the object in a JSON text; any other value unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"is no JSON ({error})") from error


def _to_json(value: ReleaseConfig | None) -> str:
    return "" if value is None else value.model_dump_json()


class ModelOptions(BaseModel):
    """A model of a server: its bundle, its name, and its serving options."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    bundle: Path | None = None
    """Folder of the model bundle; without one the server is live but not ready."""
    name: str = Field(default="model", min_length=1, max_length=128)
    """Registered model."""
    version: str = Field(default="0", min_length=1, max_length=128)
    """Registered version."""
    alias: str = Field(default="", max_length=128)
    """Registry alias under which it is served: champion or challenger."""
    engine: EngineName = EngineName.OPENVINO
    """Engine that runs the graph: openvino or onnxruntime."""
    device: Device = Device.CPU
    """Device that computes: cpu, or gpu (Intel's by openvino, NVIDIA's by onnxruntime)."""
    confidence: float | None = Field(default=None, ge=0, le=1)
    """Lowest score of a detection; the bundle's own when absent. Thresholds of labels are in the bundle."""
    iou: float | None = Field(default=None, ge=0, le=1)
    """Overlap above which NMS drops the weaker box; the bundle's own when absent."""
    max_upload_bytes: int = Field(default=20_000_000, ge=1)
    """Largest accepted image file, in bytes."""


class ModelRef(ModelOptions):
    """Bundle to serve, its registered name and version, and its serving options."""

    bundle: Path
    """Folder of the model bundle, on the server's machine."""
    name: str = Field(min_length=1, max_length=128)
    """Registered model."""
    version: str = Field(min_length=1, max_length=128)
    """Registered version."""

    @classmethod
    def from_serving(cls, serving: ServingConfig, *, bundle: Path, name: str, version: str, alias: str) -> Self:
        """Return the reference for a registered model, with the options of ``serving``."""
        # Left out for the CPU, because a server of an older image does not have the option.
        device = {} if serving.device is Device.CPU else {"device": serving.device}
        return cls(
            **device,
            bundle=bundle,
            name=name,
            version=version,
            alias=alias,
            engine=serving.engine,
            confidence=serving.confidence,
            iou=serving.iou,
            max_upload_bytes=serving.max_upload_bytes,
        )


class ServerOptions(CommandOptions, ModelOptions):
    """Options for starting a server process. API keys are not options, because command lines are visible to others."""

    PROGRAM: ClassVar[str] = f"python -m {SERVER_MODULE}"
    DESCRIPTION: ClassVar[str] = "The VisionOps prediction server."

    models: Path | None = None
    """YAML file of several models with their roles, instead of a bundle."""
    candidate: Path | None = None
    """Folder of another bundle of this model, which is tried beside it as --release says."""
    candidate_version: str = Field(default="", max_length=128)
    """Registered version of the candidate."""
    release: Annotated[ReleaseConfig | None, BeforeValidator(_from_json), PlainSerializer(_to_json)] = None
    """Release settings of the candidate: serving.release of a use case as JSON, {"strategy": "canary", "share":
    0.1}."""
    cache: Path | None = None
    """Folder for compiled models and the fastest modes, with a sub-folder for each bundle; makes the next start
    faster."""
    smoke_images: Path | None = None
    """Folder of images that each model must answer before it is served, also at /reload without images; not counted."""
    max_memory_mb: int = Field(default=0, ge=0)
    """Maximum resident memory of the process; a model that would exceed it is refused. 0: no limit."""
    max_pixels: int = Field(default=DEFAULT_MAX_PIXELS, ge=1)
    """Largest accepted width x height, in pixels."""
    max_batch_files: int = Field(default=64, ge=1, le=10_000)
    """Maximum number of images in one request, where it may have several."""
    max_batch_bytes: int = Field(default=100_000_000, ge=1)
    """Largest accepted request of several images, or of tensors, in bytes."""
    workers: int = Field(default=0, ge=0, le=256)
    """Maximum number of images in work; 0: two for each CPU of the container, one computed while another is decoded."""
    queue: int = Field(default=64, ge=0, le=100_000)
    """Maximum number of queued images; further requests get 503 and Retry-After."""
    timeout: float = Field(default=30, gt=0, le=3600)
    """Seconds from the last byte of an image to its answer."""
    upload_timeout: float = Field(default=30, gt=0, le=3600)
    """Seconds for the body of a request to arrive; then 408."""
    idle_timeout: float = Field(default=15, gt=0, le=3600)
    """Seconds for which a connection may be idle, or an answer unread."""
    max_body_memory: int = Field(default=256_000_000, ge=1)
    """Maximum bytes of all request bodies in work; further requests get 503."""
    max_connections: int = Field(default=512, ge=1, le=100_000)
    """Maximum number of connections; further ones get 503."""
    max_stream_connections: int = Field(default=32, ge=0, le=10_000)
    """Maximum number of open connections to /stream; further ones get 503. 0: no streams."""
    stream_idle_timeout: float = Field(default=60, gt=0, le=86_400)
    """Seconds without a frame after which a stream is closed."""
    rate: str | None = None
    """Request limit of each key, or each address without keys, such as 100/minute; further requests get 429."""
    streams: int = Field(default=0, ge=0, le=256)
    """Number of images computed at once under load; 0: chosen from the rates of live requests."""
    host: str = "127.0.0.1"
    """Address to listen on; by default only this machine."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0: any free port."""
    fd: int | None = Field(default=None, ge=3)
    """Inherited listening socket, instead of host and port."""
    log_file: Path | None = None
    """File for JSON log lines, rotated at 10 MB; standard output when absent."""
    source_url: str | None = Field(default=None, pattern=r"^https?://\S+$")
    """Address of the source code of this server, if you changed it; its page links to it (AGPL, section 13)."""
    prediction_log: Path | None = None
    """Folder that records requests and answers for monitoring; without one nothing is recorded."""
    prediction_log_max_mb: int = Field(default=1000, ge=8, le=10_000_000)
    """Maximum size of the prediction log in megabytes; the oldest segments are removed."""
    prediction_log_max_days: float = Field(default=30, gt=0, le=36_500, allow_inf_nan=False)
    """Maximum age of a record or an image in days; older ones are removed."""
    prediction_log_images: float = Field(default=0, ge=0, le=1, allow_inf_nan=False)
    """Share of the requests whose images are stored beside their records, unchanged."""
    prediction_log_images_max_mb: int = Field(default=1000, ge=1, le=10_000_000)
    """Maximum size of all these images in megabytes; the oldest are removed."""
    prediction_log_feedback_max_mb: int = Field(default=1000, ge=1, le=10_000_000)
    """Maximum size of all feedback with its images in megabytes; the oldest is removed, reviewed feedback first."""
    prediction_log_store: Annotated[str, AfterValidator(check_store)] | None = None
    """Additional store of closed log segments: s3://bucket/prefix, or postgresql://user@host/database."""
    keys: Path | None = None
    """File of API keys: id role sha256:hex; without keys only this machine is served."""
    open_metrics: bool = False
    """Serve /metrics without a key."""
    open_ready: bool = False
    """Answer /ready without a key, with only the status."""
    cors_origins: Annotated[tuple[str, ...], BeforeValidator(comma_separated)] = ()
    """Origins of pages that may call the server from a browser, separated by commas."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.bundle and self.models:
            raise ValueError("set either --bundle or --models, not both")
        given = [self.candidate is not None, bool(self.candidate_version), self.release is not None]
        if any(given) and not (all(given) and self.bundle):
            raise ValueError("--candidate: needs --bundle, --candidate-version and --release, which need it")
        if self.release and not self.release.is_held:
            raise ValueError("--release: strategy switch takes no candidate; set canary or shadow")
        for name in ("prediction_log_images", "prediction_log_store"):
            if getattr(self, name) and not self.prediction_log:
                raise ValueError(f"{flag(name)}: needs a folder; set --prediction-log")
        return self
