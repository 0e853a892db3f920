"""The configuration of a use case: typed, strict, one YAML file.

Unknown keys are refused with file, line and the nearest known key, because a setting that is silently ignored costs
days. ``--set training.epochs=5`` goes through the same checks.

>>> config = load_config(Path("configs/steel.yaml"), ["training.epochs=5"])
>>> config.training.epochs
5
"""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from visionops.data.findings import Code, Severity
from visionops.errors import ConfigError
from visionops.inference.bundle import Precision, Task

__all__ = [
    "ArchiveSource",
    "Config",
    "DataConfig",
    "DetectionTraining",
    "Engine",
    "EvaluationConfig",
    "FolderSource",
    "Format",
    "GateConfig",
    "SampleSource",
    "ServingConfig",
    "SplitConfig",
    "ValidationPolicy",
    "load_config",
]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Format(enum.StrEnum):
    """How labels are written."""

    VISION = "vision"
    """COCO, `{product}/{train,val,inference}/_annotations.coco.json` beside the images."""
    COCO = "coco"
    """COCO, one JSON file, images in sub-folders (the TACO shape)."""
    YOLO = "yolo"
    """`data.yaml`, `images/…` and `labels/…`."""
    VOC = "voc"
    """Pascal VOC: `Annotations/*.xml`, `JPEGImages/`, `ImageSets/Main/*.txt`."""


class Engine(enum.StrEnum):
    """What runs `model.onnx`."""

    OPENVINO = "openvino"
    ONNXRUNTIME = "onnxruntime"


class FolderSource(_Strict):
    """A folder on this machine."""

    kind: Literal["folder"]
    path: Path
    """The folder; relative to where the command is run."""


class ArchiveSource(_Strict):
    """A zip or tar archive on this machine, unpacked once."""

    kind: Literal["archive"]
    path: Path


class SampleSource(_Strict):
    """Rendered surface images with defects: needs no data and no network."""

    kind: Literal["sample"]
    images: int = Field(default=160, ge=12, le=100_000)
    size: int = Field(default=320, ge=64, le=4096)
    """Width and height in pixels."""
    difficulty: float = Field(default=0.3, ge=0, le=1)
    """0: strong contrast, little texture; 1: faint defects on strong texture."""
    clean_share: float = Field(default=0.1, ge=0, le=0.9)
    """Share of images without a defect."""
    seed: int = 0


Source = Annotated[FolderSource | ArchiveSource | SampleSource, Field(discriminator="kind")]


class SplitConfig(_Strict):
    """Shares of val and test where the data set does not give them."""

    val: float = Field(default=0.15, gt=0, lt=1)
    test: float = Field(default=0.15, gt=0, lt=1)
    seed: int = 0

    @model_validator(mode="after")
    def _leave_some_for_training(self) -> SplitConfig:
        if self.val + self.test >= 0.9:
            raise ValueError(f"val {self.val} + test {self.test} leave less than a tenth for training")
        return self


class DataConfig(_Strict):
    """Where the images and labels are, and which of them to take."""

    source: Source
    format: Format = Format.VISION
    annotations: str = "annotations.json"
    """`coco` only: the JSON file, relative to the source."""
    products: tuple[str, ...] | None = None
    """`vision` only: folders to take; all when absent."""
    categories: tuple[str, ...] | None = None
    """Classes to keep; all when absent. Images that lose their boxes stay, as empty images."""
    split: SplitConfig = SplitConfig()


class ValidationPolicy(_Strict):
    """Which findings stop the run, and the limits they are judged by.

    An `error` stops the run. A `warning` is mended (the image or box is left out, clipped, converted or kept on one
    side) and listed.
    """

    severities: dict[Code, Severity] = Field(default_factory=dict)
    """Overrides by finding code, as `leak: error`."""
    min_images: int = Field(default=10, ge=1)
    min_instances: int = Field(default=1, ge=0)
    """Boxes each class needs in train."""
    max_pixels: int = Field(default=100_000_000, ge=1)
    near_duplicate_distance: int = Field(default=4, ge=0, le=16)
    """Hamming distance of 64-bit perceptual hashes up to which two images count as near duplicates."""


class DetectionTraining(_Strict):
    """What the detector learns with."""

    model: str = "yolov8n"
    """Any Ultralytics detector by name: yolov8n, yolo11s, yolo26n, …"""
    weights: str = "auto"
    """`auto`: pretrained weights by the model's name where they can be had, else from scratch with a warning;
    `none`: from scratch; or a path to a `.pt` file or to a folder that holds `<model>.pt`."""
    image_size: int = Field(default=640, ge=32, le=4096, multiple_of=32)
    epochs: int = Field(default=100, ge=1)
    patience: int = Field(default=50, ge=0)
    """Epochs without improvement after which training stops; 0: never."""
    batch: int = Field(default=16, ge=1)
    optimizer: Literal["auto", "SGD", "Adam", "AdamW", "NAdam", "RAdam", "RMSProp", "MuSGD"] = "auto"
    learning_rate: float = Field(default=0.01, gt=0)
    final_learning_rate: float = Field(default=0.01, gt=0, le=1)
    """As a fraction of `learning_rate`."""
    seed: int = 0
    workers: int = Field(default=0, ge=0)
    device: str = "auto"
    """`auto`: a GPU when there is one, else the CPU; or `cpu`, `0`, `0,1`."""
    augmentation: dict[str, float | int | str | bool] = Field(default_factory=dict)
    """Ultralytics' augmentation settings by name: mosaic, fliplr, hsv_h, scale, …"""
    extra: dict[str, float | int | str | bool] = Field(default_factory=dict)
    """Any other Ultralytics training setting by name."""


class EvaluationConfig(_Strict):
    """How the test split is scored."""

    worst_images: int = Field(default=12, ge=0, le=100)
    latency_images: int = Field(default=50, ge=1)


class GateConfig(_Strict):
    """What a challenger must reach to become champion."""

    metric: Literal["map50", "map50_95", "precision", "recall"] = "map50"
    minimum: float = Field(default=0.3, ge=0, le=1)
    """The absolute gate."""
    margin: float = Field(default=0.005, ge=0, le=1)
    """By how much the champion must be beaten, on the same test split."""


class ServingConfig(_Strict):
    """How the champion answers."""

    engine: Engine = Engine.OPENVINO
    precision: Precision = Precision.F32
    confidence: float = Field(default=0.25, ge=0, le=1)
    iou: float = Field(default=0.7, ge=0, le=1)
    max_upload_bytes: int = Field(default=20_000_000, ge=1)
    port: int = Field(default=8000, ge=0, le=65535)
    """0: any free port."""


class Config(_Strict):
    """One use case."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=63)
    """Names the registered model and the endpoint: lower case, digits and dashes."""
    task: Task = Task.DETECTION
    data: DataConfig
    validation: ValidationPolicy = ValidationPolicy()
    training: DetectionTraining = DetectionTraining()
    evaluation: EvaluationConfig = EvaluationConfig()
    gate: GateConfig = GateConfig()
    serving: ServingConfig = ServingConfig()

    def only(self, *sections: str) -> Config:
        """The same use case with every other section at its default.

        A step that is given only what it reads is not run again when something else changes: a new gate does not train
        a new model.
        """
        blank = {"data": DataConfig(source=FolderSource(kind="folder", path=Path()))}
        others = {n for n in type(self).model_fields if n not in {"name", "task", *sections}}
        defaults = {n: blank[n] if n in blank else type(self).model_fields[n].default for n in others}
        return self.model_copy(update=defaults)


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read, override and check a configuration.

    Args:
        path: A YAML file.
        overrides: ``key.sub=value`` each; the value is read as YAML.

    Raises:
        ConfigError: With file and line, or the override, and the mend.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        known = ", ".join(sorted(p.as_posix() for p in path.parent.glob("*.yaml"))) or "none"
        raise ConfigError(f"{path}: no such configuration; there are: {known}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    try:
        root = yaml.compose(text, Loader=_UniqueKeyLoader)
        raw = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader that also refuses doubled keys
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}:1: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}:1: must be a mapping of settings, such as 'name: sample'")
    places = {key: f"{path}:{line}" for key, line in _lines(root)}
    for override in overrides:
        key, value = _parse_override(override)
        _assign(raw, key, value, override)
        for depth in range(1, len(key) + 1):
            if depth == len(key) or key[:depth] not in places:
                places[key[:depth]] = f"--set {override}"
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(_explain(error, raw, places, path)) from error


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys without a word; a doubled key is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return dict(super().construct_mapping(node, deep=deep))


_Key = tuple[str, ...]


def _lines(node: yaml.Node | None, prefix: _Key = ()) -> Iterator[tuple[_Key, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            path = (*prefix, str(key.value))
            yield path, key.start_mark.line + 1
            yield from _lines(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            path = (*prefix, str(index))
            yield path, value.start_mark.line + 1
            yield from _lines(value, path)


def _parse_override(override: str) -> tuple[_Key, Any]:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"--set {override}: expected key=value, such as training.epochs=5")
    try:
        return tuple(key.strip().split(".")), yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not valid YAML") from error


def _assign(raw: dict[str, Any], key: _Key, value: Any, override: str) -> None:
    node = raw
    for part in key[:-1]:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override}: {part!r} holds a value, not settings")
        node = child
    node[key[-1]] = value


def _explain(error: ValidationError, raw: dict[str, Any], places: dict[_Key, str], path: Path) -> str:
    """One line for the first mistake, and how many more there are."""
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    location = [str(part) for part in first["loc"]]
    # A discriminated union puts the chosen tag into the location; it is no key of the file.
    key = tuple(
        part for i, part in enumerate(location) if not (part in _SOURCE_KINDS and location[i - 1 : i] == ["source"])
    )
    place = next((places[key[:n]] for n in range(len(key), 0, -1) if key[:n] in places), f"{path}:1")
    dotted = ".".join(key)
    if first["type"] == "extra_forbidden":
        known = _known_keys(key[:-1], raw)
        near = difflib.get_close_matches(key[-1], known, n=1, cutoff=0.5)
        mend = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        message = f"{place}: unknown key {dotted!r}; {mend}"
    elif first["type"] == "missing":
        message = f"{place}: {dotted!r} is missing"
    else:
        message = f"{place}: {dotted}: {first['msg'].removeprefix('Value error, ')} (got {first['input']!r})"
    more = error.error_count() - 1
    return message + (f" (and {more} more)" if more else "")


_SOURCES = {s.model_fields["kind"].annotation: s for s in (FolderSource, ArchiveSource, SampleSource)}
_SOURCE_KINDS = {get_args(kind)[0]: model for kind, model in _SOURCES.items()}


def _known_keys(parent: _Key, raw: dict[str, Any]) -> list[str]:
    model: type[BaseModel] = Config
    for part in parent:
        if part == "source":
            kind = raw.get("data", {}).get("source", {}).get("kind", "folder")
            model = _SOURCE_KINDS.get(kind, FolderSource)
            continue
        field = model.model_fields.get(part)
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            return []
        model = field.annotation
    return sorted(model.model_fields)
