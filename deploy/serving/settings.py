"""What the server is told: from the command line, else from ``VISIONOPS_…`` variables, else the defaults.

Keys come from a file or the environment only: a command line is readable by every user of the machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from deploy.serving.models.roles import Bounds, Role
from visionops.addresses import SECRET_ERROR, check_store
from visionops.errors import ConfigError
from visionops.inference.image import DEFAULT_MAX_PIXELS
from visionops.inference.settings import Engine

__all__ = ["ADMIN_KEY_VARIABLE", "ModelRef", "Placement", "Settings", "read_settings"]

ADMIN_KEY_VARIABLE = "VISIONOPS_ADMIN_KEY"
_PREFIX = "VISIONOPS_"
_SECRETS = {"admin_key", "api_keys"}


def _comma_separated(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


class ModelRef(BaseModel):
    """Which bundle to serve, under which name, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    bundle: Path
    """Folder of the model bundle, on the server's machine."""
    name: str = Field(min_length=1, max_length=128)
    """Registered model."""
    version: str = Field(min_length=1, max_length=128)
    """Registered version."""
    alias: str = Field(default="", max_length=128)
    """Registry alias under which it is served: champion, challenger."""
    engine: Engine = Engine.OPENVINO
    """What runs the graph."""
    confidence: float | None = Field(default=None, ge=0, le=1)
    """Lowest score of a detection; the bundle's own when absent. Labels have theirs in the bundle."""
    iou: float | None = Field(default=None, ge=0, le=1)
    """Overlap above which NMS drops the weaker box; the bundle's own when absent."""
    max_upload_bytes: int = Field(default=20_000_000, ge=1)
    """Largest accepted image file."""


class Placement(ModelRef):
    """A model, and the part it plays under its name."""

    role: Role = Role.CHAMPION
    """champion, canary or shadow."""
    share: float | None = Field(default=None, gt=0, le=1)
    """Of a canary: the share of request keys it answers."""
    max_error_rate: float | None = Field(default=None, ge=0, le=1)
    """Of a canary: as of `Bounds`, whose defaults hold where these are absent."""
    max_latency_ratio: float | None = Field(default=None, ge=1, allow_inf_nan=False)
    min_requests: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _agree(self) -> Placement:
        if self.role is Role.CANARY and self.share is None:
            raise ValueError("share: a canary needs one, such as 0.1")
        if self.role is not Role.CANARY:
            for name in ("share", *Bounds.model_fields):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name}: is for a canary, not for a {self.role}; leave it out")
        Bounds.model_validate(self._bounds())
        return self

    @property
    def bounds(self) -> Bounds:
        """What a canary must keep."""
        return Bounds.model_validate(self._bounds())

    def _bounds(self) -> dict[str, Any]:
        return {name: v for name in Bounds.model_fields if (v := getattr(self, name)) is not None}


class Settings(BaseModel):
    """One server process."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    bundle: Path | None = None
    """Folder of the model bundle; without one the server is live but not ready."""
    models: Path | None = None
    """Instead of a bundle: a YAML file of several models, with their roles."""
    smoke_images: Path | None = None
    """Folder of images that each of these models must answer before it is served; not remembered, not counted."""
    max_memory_mb: int = Field(default=0, ge=0)
    """Most that the process may have resident: a model that would take it beyond is refused; 0: no limit."""
    name: str = Field(default="model", min_length=1, max_length=128)
    """Registered model."""
    version: str = Field(default="0", min_length=1, max_length=128)
    """Registered version."""
    alias: str = Field(default="", max_length=128)
    """Registry alias under which it is served."""
    engine: Engine = Engine.OPENVINO
    """openvino or onnxruntime."""
    confidence: float | None = Field(default=None, ge=0, le=1)
    """Lowest score of a detection; the bundle's own when absent. Labels have theirs in the bundle."""
    iou: float | None = Field(default=None, ge=0, le=1)
    """Overlap above which NMS drops the weaker box; the bundle's own when absent."""
    max_upload_bytes: int = Field(default=20_000_000, ge=1)
    """Largest accepted image file."""
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
    rate: str | None = None
    """Requests of one key, or one address where there are no keys: 100/minute; more get 429."""
    streams: int = Field(default=0, ge=0, le=256)
    """Images computed side by side under load; 0: what a short trial at the start finds best."""
    cache: Path | None = None
    """Folder for compiled models and the trials' results, a sub-folder for each bundle: the next start is faster."""
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
    prediction_log_store: Annotated[str, AfterValidator(check_store)] | None = None
    """Where closed segments of the log are kept, too: s3://bucket/prefix, or postgresql://user@host/database."""
    prediction_log_images: float = Field(default=0, ge=0, le=1, allow_inf_nan=False)
    """Share of the requests whose images are kept beside their records, as they came."""
    prediction_log_images_max_mb: int = Field(default=1000, ge=1, le=10_000_000)
    """Of all these images, in megabytes; the oldest go."""
    keys: Path | None = None
    """File of API keys: id role sha256:hex; without keys only this machine is served."""
    open_metrics: bool = False
    """Serve /metrics without a key."""
    open_ready: bool = False
    """Answer /ready without a key, with the status only."""
    cors_origins: Annotated[tuple[str, ...], BeforeValidator(_comma_separated)] = ()
    """Origins of pages that may call the server from a browser, separated by commas."""
    api_keys: SecretStr | None = None
    """The lines of such a file."""
    admin_key: SecretStr | None = None
    """One more key of role admin; it alone does not make the other routes ask for one."""

    @model_validator(mode="after")
    def _agree(self) -> Settings:
        if self.bundle and self.models:
            raise ValueError("give either --bundle or --models")
        for name in ("prediction_log_images", "prediction_log_store"):
            if getattr(self, name) and not self.prediction_log:
                raise ValueError(f"{_flag(name)}: needs a folder, given by --prediction-log")
        return self

    def model_ref(self) -> Placement | None:
        """The model of ``bundle``, if any."""
        if self.bundle is None:
            return None
        return Placement.model_validate(self.model_dump(include=set(ModelRef.model_fields)))


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Arguments win over the environment.

    Raises:
        ConfigError: Naming the argument or the variable.
    """
    parser = argparse.ArgumentParser(prog="python -m deploy.serving", description="The VisionOps prediction server.")
    for name, field in Settings.model_fields.items():
        if name in _SECRETS:
            continue
        shown = "" if field.default in (None, ()) else f" [{field.default}]"
        switch: dict[str, Any] = {"nargs": "?", "const": "true"} if field.annotation is bool else {}
        parser.add_argument(_flag(name), help=f"{field.description}{shown}", **switch)
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    known = {name: environment.get(_variable(name)) for name in Settings.model_fields}
    values = {name: value for name, value in known.items() if value} | given
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if not first["loc"]:
            raise ConfigError(first["msg"].removeprefix("Value error, ")) from error
        name = str(first["loc"][0])
        place = _flag(name) if name in given else _variable(name)
        if first["type"] == SECRET_ERROR:
            raise ConfigError(f"{place}: {first['msg']}") from None  # nor may the trace have it
        raise ConfigError(f"{place}: {first['msg']} (got {first['input']!r})") from error


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _variable(name: str) -> str:
    return _PREFIX + name.upper()
