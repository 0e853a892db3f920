"""The options of the prediction server, as its command line and its environment have them.

Deployers write a command line with `ServerOptions.to_arguments`, the server reads it with `ServerOptions.parse`: what
one of them knows, the other takes.

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
"""What ``python -m`` starts."""


ADMIN_KEY_VARIABLE = variable("admin_key")
API_KEYS_VARIABLE = variable("api_keys")


def _from_json(value: object) -> object:
    """Return a text as the object that it is; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"is no JSON ({error})") from error


def _to_json(value: ReleaseConfig | None) -> str:
    return "" if value is None else value.model_dump_json()


class ModelOptions(BaseModel):
    """A model of a server: its bundle, its name, and how it answers."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    bundle: Path | None = None
    """Folder of the model bundle; without one the server is live but not ready."""
    name: str = Field(default="model", min_length=1, max_length=128)
    """Registered model."""
    version: str = Field(default="0", min_length=1, max_length=128)
    """Registered version."""
    alias: str = Field(default="", max_length=128)
    """Registry alias under which it is served: champion, challenger."""
    engine: EngineName = EngineName.OPENVINO
    """What runs the graph: openvino or onnxruntime."""
    device: Device = Device.CPU
    """What it runs on: cpu, or gpu (Intel's by openvino, NVIDIA's by onnxruntime)."""
    confidence: float | None = Field(default=None, ge=0, le=1)
    """Lowest score of a detection; the bundle's own when absent. Labels have theirs in the bundle."""
    iou: float | None = Field(default=None, ge=0, le=1)
    """Overlap above which NMS drops the weaker box; the bundle's own when absent."""
    max_upload_bytes: int = Field(default=20_000_000, ge=1)
    """Largest accepted image file."""


class ModelRef(ModelOptions):
    """Which bundle to serve, under which name, and how."""

    bundle: Path
    """Folder of the model bundle, on the server's machine."""
    name: str = Field(min_length=1, max_length=128)
    """Registered model."""
    version: str = Field(min_length=1, max_length=128)
    """Registered version."""

    @classmethod
    def from_serving(cls, serving: ServingConfig, *, bundle: Path, name: str, version: str, alias: str) -> Self:
        """Return how ``serving`` has a registered model served."""
        # As an option that was not given, where it is the CPU: a server of an older image knows none of that name.
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
    """What a server process can be started with; its keys are no options, since a command line is read by many."""

    PROGRAM: ClassVar[str] = f"python -m {SERVER_MODULE}"
    DESCRIPTION: ClassVar[str] = "The VisionOps prediction server."

    models: Path | None = None
    """Instead of a bundle: a YAML file of several models, with their roles."""
    candidate: Path | None = None
    """Folder of another bundle of this model, which is tried beside it as --release says."""
    candidate_version: str = Field(default="", max_length=128)
    """Registered version of the candidate."""
    release: Annotated[ReleaseConfig | None, BeforeValidator(_from_json), PlainSerializer(_to_json)] = None
    """How the candidate is tried: serving.release of a use case as JSON, {"strategy": "canary", "share": 0.1}."""
    cache: Path | None = None
    """Folder for compiled models and the fastest modes, a sub-folder for each bundle: the next start is faster."""
    smoke_images: Path | None = None
    """Folder of images that each model must answer before it is served, also at /reload without images; not counted."""
    max_memory_mb: int = Field(default=0, ge=0)
    """Most that the process may have resident: a model that would take it beyond is refused; 0: no limit."""
    max_pixels: int = Field(default=DEFAULT_MAX_PIXELS, ge=1)
    """Largest accepted width x height."""
    max_batch_files: int = Field(default=64, ge=1, le=10_000)
    """Most images of one request, where it may have several."""
    max_batch_bytes: int = Field(default=100_000_000, ge=1)
    """Largest accepted request of several images, or of tensors."""
    workers: int = Field(default=0, ge=0, le=256)
    """Images in work at once; 0: two for each CPU that the container grants, one computed while another is decoded."""
    queue: int = Field(default=64, ge=0, le=100_000)
    """Images that may wait beside; more are refused with 503 and Retry-After."""
    timeout: float = Field(default=30, gt=0, le=3600)
    """Seconds from the last byte of an image to its answer."""
    upload_timeout: float = Field(default=30, gt=0, le=3600)
    """Seconds for the body of a request to arrive; then 408."""
    idle_timeout: float = Field(default=15, gt=0, le=3600)
    """Seconds a connection may stay without a request in work, or with an answer that is not read."""
    max_body_memory: int = Field(default=256_000_000, ge=1)
    """Bytes of all bodies in work at once; more are refused with 503."""
    max_connections: int = Field(default=512, ge=1, le=100_000)
    """Connections at once; more are refused with 503."""
    max_stream_connections: int = Field(default=32, ge=0, le=10_000)
    """Open connections to /stream; more are refused with 503. 0: no streams."""
    stream_idle_timeout: float = Field(default=60, gt=0, le=86_400)
    """Seconds that a stream may go without a frame; then it is closed."""
    rate: str | None = None
    """Requests of one key, or one address where there are no keys: 100/minute; more get 429."""
    streams: int = Field(default=0, ge=0, le=256)
    """Images computed side by side under load; 0: chosen from the rates of live requests."""
    host: str = "127.0.0.1"
    """Address to listen on: this machine only, unless told otherwise."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0: any free port."""
    fd: int | None = Field(default=None, ge=3)
    """An inherited listening socket, instead of host and port."""
    log_file: Path | None = None
    """JSON lines go here, rotated at 10 MB; to standard output when absent."""
    prediction_log: Path | None = None
    """Folder that remembers what was asked and answered, for monitoring; without one nothing is remembered."""
    prediction_log_max_mb: int = Field(default=1000, ge=8, le=10_000_000)
    """Of all of it, in megabytes; the oldest goes."""
    prediction_log_max_days: float = Field(default=30, gt=0, le=36_500, allow_inf_nan=False)
    """Of a record, or an image; older ones go."""
    prediction_log_images: float = Field(default=0, ge=0, le=1, allow_inf_nan=False)
    """Share of the requests whose images are kept beside their records, as they came."""
    prediction_log_images_max_mb: int = Field(default=1000, ge=1, le=10_000_000)
    """Of all these images, in megabytes; the oldest go."""
    prediction_log_feedback_max_mb: int = Field(default=1000, ge=1, le=10_000_000)
    """Of all feedback with its images, in megabytes; the oldest goes, and first what the review has taken."""
    prediction_log_store: Annotated[str, AfterValidator(check_store)] | None = None
    """Where closed segments of the log are kept, too: s3://bucket/prefix, or postgresql://user@host/database."""
    keys: Path | None = None
    """File of API keys: id role sha256:hex; without keys only this machine is served."""
    open_metrics: bool = False
    """Serve /metrics without a key."""
    open_ready: bool = False
    """Answer /ready without a key, with the status only."""
    cors_origins: Annotated[tuple[str, ...], BeforeValidator(comma_separated)] = ()
    """Origins of pages that may call the server from a browser, separated by commas."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.bundle and self.models:
            raise ValueError("give either --bundle or --models")
        given = [self.candidate is not None, bool(self.candidate_version), self.release is not None]
        if any(given) and not (all(given) and self.bundle):
            raise ValueError("--candidate: needs --bundle, --candidate-version and --release, which need it")
        if self.release and not self.release.is_held:
            raise ValueError("--release: strategy switch tries no candidate; canary and shadow do")
        for name in ("prediction_log_images", "prediction_log_store"):
            if getattr(self, name) and not self.prediction_log:
                raise ValueError(f"{flag(name)}: needs a folder, given by --prediction-log")
        return self
