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
import itertools
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from visionops.data.findings import Code, Severity
from visionops.errors import ConfigError
from visionops.inference.bundle import Engine, Precision, Task
from visionops.inference.preprocessing import ContentCrop, Tiling
from visionops.monitoring.drift import DriftSettings
from visionops.monitoring.policy import RetrainPolicy
from visionops.monitoring.stores import SECRET_ERROR, check_store

__all__ = [
    "METRICS",
    "OWN_NETWORKS",
    "ArchiveSource",
    "Augmentation",
    "Balance",
    "Config",
    "DataConfig",
    "DetectionTraining",
    "DvcSource",
    "Engine",
    "EvaluationConfig",
    "FolderSource",
    "Format",
    "GateConfig",
    "GoalMetric",
    "LabelRule",
    "LabelTraining",
    "Learning",
    "PackageSource",
    "QuantizationConfig",
    "ReferenceKind",
    "S3Source",
    "SampleSource",
    "SearchRange",
    "ServingConfig",
    "SplitConfig",
    "ThresholdGoal",
    "TrainingTiles",
    "TuningConfig",
    "ValidationPolicy",
    "Views",
    "WeightRule",
    "load_config",
    "parse_settings",
    "takes_whole_numbers",
    "with_training",
]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


_Schema = TypeVar("_Schema", bound=BaseModel)


class Format(enum.StrEnum):
    """How labels are written."""

    AUTO = "auto"
    """Whatever the files show; several plausible readings are an error that lists them."""
    VISION = "vision"
    """COCO, `{product}/{train,val,inference}/_annotations.coco.json` beside the images."""
    COCO = "coco"
    """COCO, one or several JSON files of any name, images in any sub-folder."""
    YOLO = "yolo"
    """`data.yaml` or `obj.data`, or neither; `images/…` and `labels/…`."""
    VOC = "voc"
    """Pascal VOC: an XML file an image, in `Annotations/` or beside it; `ImageSets/Main/*.txt`."""
    LABELME = "labelme"
    """labelme: a JSON file an image."""
    CVAT = "cvat"
    """CVAT for images 1.1: one XML file."""
    VIA = "via"
    """VGG Image Annotator: a JSON project or its export."""
    LABEL_STUDIO = "label_studio"
    """Label Studio's own JSON."""
    CSV = "csv"
    """A table with a row a box: `filename,xmin,ymin,xmax,ymax,class`."""
    FOLDERS = "folders"
    """A folder a class, `{class}/…` or `{train,val,test}/{class}/…`."""
    TABLE = "table"
    """A CSV, TSV, Parquet or Excel file with a row an image and a column an attribute."""
    IMAGEFOLDER = "imagefolder"
    """Hugging Face: `metadata.jsonl`, `.csv` or `.parquet` beside the images."""
    MVTEC = "mvtec"
    """MVTec AD: `train/good`, `test/{good,…}`, `ground_truth/`. Recognised, and refused until there is its task."""


_BOX_FORMATS = (
    Format.VISION,
    Format.COCO,
    Format.YOLO,
    Format.VOC,
    Format.LABELME,
    Format.CVAT,
    Format.VIA,
    Format.LABEL_STUDIO,
    Format.CSV,
    Format.IMAGEFOLDER,
)
_LABEL_FORMATS = (Format.FOLDERS, Format.TABLE, Format.IMAGEFOLDER, Format.LABEL_STUDIO)


class FolderSource(_Strict):
    """A folder on this machine."""

    kind: Literal["folder"]
    path: Path
    """The folder; relative to where the command is run."""


class ArchiveSource(_Strict):
    """A zip, tar or 7z archive on this machine, unpacked once."""

    kind: Literal["archive"]
    path: Path


class PackageSource(_Strict):
    """A data set that comes as a Python package: `pip install` brings it."""

    kind: Literal["package"]
    package: str
    """As in `pip install`: elpv-dataset."""
    folder: str
    """Where the data lies, relative to where packages are installed: elpv_dataset/data."""


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


def _check_prefix(uri: str) -> str:
    if check_store(uri).startswith("s3://"):
        return uri.rstrip("/")
    raise ValueError("must be s3://bucket/prefix")


class S3Source(_Strict):
    """A prefix of an object store, fetched once. The endpoint and the credentials are those of the environment."""

    kind: Literal["s3"]
    uri: Annotated[str, AfterValidator(_check_prefix)]
    """`s3://bucket/prefix`, with images and labels as in a folder."""


class DvcSource(_Strict):
    """A folder that DVC tracks, in a repository on this machine; `dvc pull` brings what is missing."""

    kind: Literal["dvc"]
    path: Path
    """The folder, or one below it; relative to where the command is run."""
    remote: str | None = None
    """Name of the DVC remote; the repository's default when absent."""


Source = Annotated[
    FolderSource | ArchiveSource | PackageSource | SampleSource | S3Source | DvcSource, Field(discriminator="kind")
]


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


Raw = str | int | float | bool
"""A value as a table holds it. Compared as text, and as number where both are one: 1, "1" and 1.0 are the same."""


class LabelRule(_Strict):
    """How one attribute comes from a raw column, or from the name of a class folder.

    Exactly one of ``classes`` (lists of raw values) and ``ranges`` (of a number) says it.
    """

    column: str | None = None
    """`table` only: the raw column; the attribute's own name when absent."""
    classes: dict[str, tuple[Raw, ...]] | None = None
    """Class to the raw values it stands for, in the order of class ids."""
    ranges: dict[str, tuple[float, float]] | None = None
    """Class to the lowest and highest number it stands for, both included."""
    default: str | None = None
    """Class of every other raw value; without it another value is refused."""
    unknown: tuple[Raw, ...] = ("",)
    """Raw values that say "not known": the image is then not asked this question."""
    drop: tuple[Raw, ...] = ()
    """Raw values whose images are left out, as too uncertain or as of no interest."""
    positive: str | None = None
    """Of two classes, the one that is looked for ("defective"); the last when absent."""

    @model_validator(mode="before")
    @classmethod
    def _name_classes(cls, raw: Any) -> Any:
        """YAML reads the bare words yes, no, on and off as true and false: as names of classes they must be quoted."""
        for key in ("classes", "ranges"):
            given = raw.get(key) if isinstance(raw, dict) else None
            for name in given if isinstance(given, dict) else ():
                if not isinstance(name, str):  # pydantic turns a ValueError into one line, a TypeError into none
                    raise ValueError(  # noqa: TRY004
                        f"class name {str(name).lower()} is no text to YAML; write it in quotes, as 'yes'"
                    )
        return raw

    @model_validator(mode="after")
    def _agree(self) -> LabelRule:
        if (self.classes is None) == (self.ranges is None):
            raise ValueError("give either classes (lists of raw values) or ranges (lowest and highest number)")
        names = list(self.classes or self.ranges or {})
        if len(names) < 2:
            raise ValueError(f"needs two classes or more (has {len(names)})")
        for key, name in (("default", self.default), ("positive", self.positive)):
            if name is not None and name not in names:
                raise ValueError(f"{key} {name!r} is none of its classes: {', '.join(names)}")
        if self.positive is not None and len(names) != 2:
            raise ValueError(f"positive {self.positive!r} makes sense with two classes (has {len(names)})")
        self._refuse_overlaps()
        return self

    def _refuse_overlaps(self) -> None:
        owners: dict[str, str] = {}
        for name, values in (self.classes or {}).items():
            for value in values:
                other = owners.setdefault(raw_key(value), name)
                if other != name:
                    raise ValueError(f"raw value {value!r} stands for both {other!r} and {name!r}")
        for key, values in (("unknown", self.unknown), ("drop", self.drop)):
            for value in values:
                # Nothing at all is unknown by default; a class that lists it wins.
                if raw_key(value) in owners and not (key == "unknown" and raw_key(value) == ""):
                    raise ValueError(f"raw value {value!r} stands for both {owners[raw_key(value)]!r} and {key}")
        ranges = sorted((self.ranges or {}).items(), key=lambda item: item[1])
        for name, (low, high) in ranges:
            if low > high:
                raise ValueError(f"the range of {name!r} ends before it begins: {low:g} to {high:g}")
        for (first, (_, end)), (second, (begin, _)) in itertools.pairwise(ranges):
            if begin <= end:
                raise ValueError(f"the ranges of {first!r} and {second!r} overlap at {begin:g}")


_PLAIN_NUMBER = re.compile(r"[+-]?(0|[1-9][0-9]*|(?=\.[0-9]))(\.[0-9]*)?([eE][+-]?[0-9]+)?")


def raw_key(value: Raw) -> str:
    """What two raw values share when they mean the same, as text.

    1, "1", " 1 " and "1.0" do, and true and "True"; "01", which is a code and no number, and 1 do not.
    """
    text = unicodedata.normalize("NFC", str(value).strip())
    if text.casefold() in {"true", "false"}:
        return text.casefold()
    if not _PLAIN_NUMBER.fullmatch(text):
        return text
    number = float(text)
    if number.is_integer() and abs(number) < 2**53:
        return str(int(number))
    return repr(number) if math.isfinite(number) and not number.is_integer() else text


class WeightRule(_Strict):
    """How much each image counts in training, from a raw column: for labels that say how sure they are."""

    column: str
    values: dict[float, Annotated[float, Field(ge=0, le=1000)]] = Field(min_length=1)
    """Number in the column to weight, by the nearest; 0 leaves the image out of the loss."""


class DataConfig(_Strict):
    """Where the images and labels are, and which of them to take."""

    source: Source
    additions: Source | None = None
    """Images of the line that were labelled since, in the same format; the folder may be empty still. Training adds
    them to the source, whose images keep their splits; `--pipeline monitoring` scores the champion on those it has not
    seen."""
    format: Format = Format.AUTO
    annotations: str | tuple[str, ...] | None = None
    """`coco` only: the JSON file or files, relative to the source; all COCO files when absent."""
    crowds: Literal["ignore", "objects"] = "ignore"
    """`coco` and `vision` only: what annotations with `iscrowd: 1` outline: groups, which are left out, or objects."""
    table: str | None = None
    """`table` only: the table, relative to the source; the only one when absent."""
    delimiter: str = ","
    """`table` only: one character; `whitespace` for any run of blanks."""
    columns: tuple[str, ...] | None = None
    """`table` only: names of the columns of a CSV that has no header; the first line is the header when absent."""
    image_column: str | None = None
    """`table` only: the column with the image's path, relative to the CSV; the first when absent."""
    lots: tuple[str, ...] | None = None
    """`table` only: folders to take; all when absent. Images without a row are for batch inference."""
    labels: dict[str, LabelRule] = Field(default_factory=dict)
    """`folders`, `table`: attribute to how it comes from the raw values. Without it a class folder is its own class,
    and every column of a table an attribute with its values as classes; of two, 1, true or yes is the positive one."""
    weights: WeightRule | None = None
    """`table` only."""
    group_column: str | None = None
    """`table` only: images with the same value there (of one part, one person) stay in one split."""
    split_column: str | None = None
    """`table` only: the column that says train, val or test; images without a word there have no split."""
    products: tuple[str, ...] | None = None
    """`vision` only: folders to take; all when absent."""
    categories: tuple[str, ...] | None = None
    """Classes of boxes to keep; all when absent. Images that lose their boxes stay, as empty images."""
    white_level: int | None = Field(default=None, ge=1, le=65535)
    """Value of 16-bit files that becomes 255; what is brighter is clipped. When absent, the largest value of 8, 10, 12,
    14 or 16 bits that holds the brightest sample of the data set. The bundle stores it, so that the server does the
    same."""
    notes: tuple[str, ...] = ()
    """What a reader of the figures should know of the data; they travel with it and are printed."""
    split: SplitConfig = SplitConfig()

    @model_validator(mode="after")
    def _agree(self) -> DataConfig:
        for key, formats in _ONLY_WITH.items():
            # Not model_fields_set: what was dumped and read again has every field set.
            if getattr(self, key) != type(self).model_fields[key].get_default(call_default_factory=True) and (
                self.format not in (Format.AUTO, *formats)
            ):
                known = " or ".join(formats)
                raise ValueError(f"{key}: is for format {known} (got {self.format.value}); leave it out")
        if self.delimiter != "whitespace" and (len(self.delimiter) != 1 or self.delimiter in '"\r\n\0'):
            raise ValueError(f"delimiter: must be one character, or 'whitespace' (got {self.delimiter!r})")
        if self.columns is not None and len(set(self.columns)) < len(self.columns):
            raise ValueError("columns: names one column twice")
        if self.format is Format.FOLDERS:
            if len(self.labels) > 1:
                raise ValueError(f"labels: a folder is one answer, to one question (got {', '.join(self.labels)})")
            for name, rule in self.labels.items():
                if rule.column is not None:
                    raise ValueError(f"labels.{name}.column: is for format table; leave it out")
        return self


_ONLY_WITH: dict[str, tuple[Format, ...]] = {
    **dict.fromkeys(
        ("delimiter", "columns", "image_column", "lots", "weights", "group_column", "split_column", "table"),
        (Format.TABLE,),
    ),
    "annotations": (Format.COCO,),
    "crowds": (Format.COCO, Format.VISION),
    "products": (Format.VISION,),
    "labels": (Format.FOLDERS, Format.TABLE, Format.IMAGEFOLDER),
    "categories": _BOX_FORMATS,
}
"""Keys of `data` to the formats they are for; any of them with `auto`, whose reading they narrow down."""


class ValidationPolicy(_Strict):
    """Which findings stop the run, and the limits they are judged by.

    An `error` stops the run. A `warning` is mended (the image or box is left out, clipped, converted or kept on one
    side) and listed.
    """

    severities: dict[Code, Severity] = Field(default_factory=dict)
    """Overrides by finding code, as `leak: error`."""
    shards: int = Field(default=1, ge=1, le=1000)
    """Steps that the images are decoded in, which a cluster runs at once; the report is the same."""
    min_images: int = Field(default=10, ge=1)
    min_instances: int = Field(default=1, ge=0)
    """Boxes each class needs in train."""
    max_pixels: int = Field(default=100_000_000, ge=1)
    near_duplicate_distance: int = Field(default=4, ge=0, le=16)
    """Hamming distance of 64-bit perceptual hashes up to which two images count as near duplicates."""


class _Training(_Strict):
    """What every training has."""

    seed: int = 0
    workers: int = Field(default=0, ge=0)
    device: str = "auto"
    """`auto`: a GPU when there is one, else the CPU; or `cpu`, `0`, `0,1`."""


class TrainingTiles(Tiling):
    """Tiles of large images, and which of them the detector learns from."""

    min_visible: float = Field(default=0.3, gt=0, le=1)
    """A box counts in a tile that shows at least this share of it (of a box larger than a tile: of what a tile can
    show). Its remains in other tiles count as background there, so that the detector leaves them to the neighbour."""
    keep_empty: float = Field(default=0.2, ge=0, le=1)
    """Share of the tiles without any part of a box that is learned from, too. Most tiles of a casting are such."""

    @property
    def tiling(self) -> Tiling:
        """What the bundle's card says of it."""
        return Tiling(size=self.size, overlap=self.overlap, max_tiles=self.max_tiles)


class DetectionTraining(_Training):
    """What the detector learns with."""

    task: Literal[Task.DETECTION] = Task.DETECTION
    model: str = "yolov8n"
    """Any Ultralytics detector by name: yolov8n, yolo11s, yolo26n, …"""
    weights: str = "auto"
    """`auto`: pretrained weights by the model's name where they can be had, else from scratch with a warning;
    `none`: from scratch; or a path to a `.pt` file or to a folder that holds `<model>.pt`."""
    image_size: int = Field(default=640, ge=32, le=4096, multiple_of=32)
    tiles: TrainingTiles | None = None
    """An image larger than a tile is cut into overlapping tiles, each brought to `image_size`: in training,
    evaluation, serving and batch. Absent: every image as a whole."""
    epochs: int = Field(default=100, ge=1)
    patience: int = Field(default=50, ge=0)
    """Epochs without improvement after which training stops; 0: never."""
    batch: int = Field(default=16, ge=1)
    optimizer: Literal["auto", "SGD", "Adam", "AdamW", "NAdam", "RAdam", "RMSProp", "MuSGD"] = "auto"
    learning_rate: float = Field(default=0.01, gt=0)
    final_learning_rate: float = Field(default=0.01, gt=0, le=1)
    """As a fraction of `learning_rate`."""
    augmentation: dict[str, float | int | str | bool] = Field(default_factory=dict)
    """Ultralytics' augmentation settings by name: mosaic, fliplr, hsv_h, scale, …"""
    extra: dict[str, float | int | str | bool] = Field(default_factory=dict)
    """Any other Ultralytics training setting by name."""


class Learning(enum.StrEnum):
    """Which parameters of a classifier are learned."""

    FROZEN = "frozen"
    """The heads alone, on features of a pretrained backbone that are computed once per image."""
    FINE_TUNE = "fine_tune"
    """Heads first as in `frozen`, then all, at a small rate."""
    SCRATCH = "scratch"
    """All, from random weights."""


class Balance(enum.StrEnum):
    """What is done about classes of unequal size."""

    NONE = "none"
    WEIGHTS = "weights"
    """The loss of a rare class counts for more."""
    SAMPLER = "sampler"
    """Images of a rare class are drawn more often."""


class GoalMetric(enum.StrEnum):
    """What the threshold of a binary head is chosen for, on the val split."""

    NONE = "none"
    """No threshold: the more probable class is answered."""
    F1 = "f1"
    BALANCED_ACCURACY = "balanced_accuracy"
    RECALL_AT_PRECISION = "recall_at_precision"
    """The most recall among thresholds whose precision is at least ``precision``."""


class ThresholdGoal(_Strict):
    """What decides when the positive class is answered."""

    metric: GoalMetric = GoalMetric.NONE
    precision: float = Field(default=0.95, gt=0, le=1)
    """For `recall_at_precision`."""


class Augmentation(_Strict):
    """Random changes of training images, drawn anew in each epoch. `frozen` learning has none."""

    fliplr: float = Field(default=0.5, ge=0, le=1)
    """Probability of a mirror image."""
    flipud: float = Field(default=0.0, ge=0, le=1)
    degrees: float = Field(default=0.0, ge=0, le=180)
    """Rotated by up to so much either way."""
    scale: float = Field(default=0.0, ge=0, lt=1)
    """Enlarged or shrunk by up to this share."""
    translate: float = Field(default=0.0, ge=0, lt=1)
    """Moved by up to this share of the side."""
    brightness: float = Field(default=0.0, ge=0, lt=1)
    contrast: float = Field(default=0.0, ge=0, lt=1)


class Views(enum.StrEnum):
    """As what each training image is also shown to the heads of a frozen backbone."""

    NONE = "none"
    """As it is, no more."""
    MIRRORED = "mirrored"
    """And as its mirror image, left to right."""
    DIHEDRAL = "dihedral"
    """In all eight ways a square can lie: turned by quarter turns, and mirrored. For what has no upright."""


class LabelTraining(_Training):
    """What a classifier learns with: of one label (`classification`) or of several (`attributes`).

    A setting that would have no effect is refused.
    """

    task: Literal[Task.CLASSIFICATION, Task.ATTRIBUTES] = Task.CLASSIFICATION
    model: str = "efficientnet_lite0"
    """A backbone: efficientnet_lite0 (its weights install with us), dinov2_vits14, any model of timm by name; or one of
    ours, from scratch: cnn (three convolutions), residual (a stem and four residual blocks)."""
    weights: str = "auto"
    """`auto`: pretrained by the model's name, and refused where they cannot be had (`scratch` needs none); `none`:
    random, with `scratch` alone; or a path to a file."""
    learning: Learning = Learning.FROZEN
    image_size: int | None = Field(default=None, ge=16, le=1024)
    """Sides of the model's input in pixels; the backbone's own when absent."""
    resize: Literal["stretch", "center_crop", "letterbox"] = "stretch"
    crop: ContentCrop | None = None
    """Cut each image to its content first; part of the bundle, so the same everywhere."""
    filters: int = Field(default=32, ge=1, le=1024)
    """`cnn`, `residual`: channels of the first convolution."""
    kernel: Literal[3, 5, 7] = 3
    """`cnn`: side of its convolutions."""
    l2: float | None = Field(default=None, gt=0, le=1000)
    """`frozen`, `fine_tune`: what the squared length of the heads costs beside the mean loss; the best of a few on val
    when absent."""
    views: Views = Views.NONE
    """`frozen`, `fine_tune`: as what else the heads see each training image."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Before the heads. From here to ``augmentation``: not of `frozen` learning, which solves for the heads."""
    epochs: int = Field(default=30, ge=1)
    """At most."""
    patience: int = Field(default=10, ge=0)
    """Epochs without improvement on val after which training stops; 0: never."""
    batch: int = Field(default=32, ge=1)
    optimizer: Literal["AdamW", "Adam", "SGD"] = "AdamW"
    """SGD with Nesterov's momentum of 0.9."""
    learning_rate: float | None = Field(default=None, gt=0)
    """0.001 from scratch and 0.0001 to fine-tune when absent."""
    weight_decay: float = Field(default=0.01, ge=0)
    scheduler: Literal["plateau", "cosine", "none"] = "plateau"
    """`plateau`: a third of the rate after 3 epochs without a lower loss on val; `cosine`: down to a hundredth."""
    gradient_clip: float = Field(default=1.0, ge=0)
    """Largest norm of the gradient; 0: not clipped."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    augmentation: Augmentation = Augmentation()
    balance: Balance = Balance.NONE
    """`sampler` not with `frozen`, which draws nothing."""
    head_weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """`attributes`: how much each counts in the loss; 1 when not named. Not of `frozen` learning, whose heads do not
    touch one another."""
    calibrate: bool = True
    """Fit one temperature per head on val, so that a confidence is a frequency."""
    threshold: ThresholdGoal = ThresholdGoal()

    @model_validator(mode="after")
    def _agree(self) -> LabelTraining:
        is_scratch = self.learning is Learning.SCRATCH
        if self.model in OWN_NETWORKS and not is_scratch:
            raise ValueError(f"learning: {self.model} has no pretrained weights; set learning: scratch")
        if is_scratch and self.weights not in {"auto", "none"}:
            raise ValueError("weights: scratch starts from random ones; leave it out, or set learning: fine_tune")
        if not is_scratch and self.weights == "none":
            raise ValueError(f"weights: {self.learning.value} builds on pretrained ones; set learning: scratch")
        if self.learning is Learning.FROZEN and self.balance is Balance.SAMPLER:
            raise ValueError("balance: frozen learning draws no images; set weights")
        for name, reason in self.idle_settings().items():
            if getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True):
                raise ValueError(f"{name}: has no effect with {reason}; leave it out")
        if self.head_weights and not any(self.head_weights.values()):
            raise ValueError("head_weights: all are 0; give one of them more")
        if self.threshold.metric is not GoalMetric.RECALL_AT_PRECISION and self.threshold.precision != 0.95:
            raise ValueError("threshold.precision: is for recall_at_precision; leave it out, or set that metric")
        return self

    def idle_settings(self) -> dict[str, str]:
        """The settings that have no effect beside the others, each with what makes them so."""
        idle: dict[str, str] = {}
        if self.model not in OWN_NETWORKS:
            idle["filters"] = f"model: {self.model} (cnn and residual have it)"
        if self.model != "cnn":
            idle["kernel"] = f"model: {self.model} (cnn has it)"
        if self.task is Task.CLASSIFICATION:
            idle["head_weights"] = "task: classification, which has one head"
        if self.learning is Learning.SCRATCH:
            idle |= dict.fromkeys(("l2", "views"), "learning: scratch, which has no frozen backbone")
        if self.learning is Learning.FROZEN:
            idle |= dict.fromkeys(_LOOP_SETTINGS, "learning: frozen, which solves for the heads, each by itself")
        return idle


OWN_NETWORKS = ("cnn", "residual")
"""Those that `LabelTraining.model` may name beside timm's."""

_LOOP_SETTINGS = (
    "dropout",
    "epochs",
    "patience",
    "batch",
    "optimizer",
    "learning_rate",
    "weight_decay",
    "scheduler",
    "gradient_clip",
    "label_smoothing",
    "augmentation",
    "head_weights",
)


Training = Annotated[DetectionTraining | LabelTraining, Field(discriminator="task")]


class EvaluationConfig(_Strict):
    """How the test split is scored."""

    worst_images: int = Field(default=12, ge=0, le=100)
    """How many of the worst are drawn; 0: no images at all, only figures and charts."""
    latency_images: int = Field(default=50, ge=1)
    resamples: int = Field(default=1000, ge=0, le=100_000)
    """Bootstrap resamples of the test images, for confidence intervals and for `gate.confidence`; 0: none."""


METRICS: dict[Task, tuple[str, ...]] = {
    Task.DETECTION: ("map50", "map50_95", "precision", "recall"),
    Task.CLASSIFICATION: ("balanced_accuracy", "accuracy", "f1", "roc_auc", "pr_auc"),
    Task.ATTRIBUTES: ("accuracy", "balanced_accuracy", "f1", "roc_auc", "pr_auc"),
}
"""What each task can be judged by, on val (tuning) and test (the gate); the first is the default."""


class GateConfig(_Strict):
    """What a challenger must reach to become champion."""

    metric: str = "map50"
    """`METRICS` of the task; its first when absent."""
    minimum: float = Field(default=0.3, ge=0, le=1)
    """The absolute gate."""
    margin: float = Field(default=0.005, ge=0, le=1)
    """By how much the champion must be beaten, on the same test images."""
    confidence: float = Field(default=0.95, ge=0, lt=1)
    """In more than what share of resamples of the test images the challenger must be ahead, so that a champion is not
    replaced on noise: a challenger that is no better passes once in 20 at 0.95, once in 5 at 0.8. 0: the margin alone
    counts."""
    min_images: int = Field(default=25, ge=1)
    """With fewer test images to compare on, no champion is replaced: resamples of a few images are too sure. Not with
    `confidence: 0`."""
    per_class_minimum: float | dict[str, float] | None = None
    """Floor of each class (of several attributes: of each attribute), as one number or by name: a class that collapses
    hides in a mean. Judged by `metric` where it is known of a class, else by recall. Absent: none."""

    @field_validator("per_class_minimum", mode="before")
    @classmethod
    def _check_floors(cls, given: Any) -> Any:
        """Say in one line what a union of types would say in two."""
        for floor in given.values() if isinstance(given, dict) else () if given is None else (given,):
            if isinstance(floor, bool) or not isinstance(floor, int | float) or not 0 <= floor <= 1:
                raise ValueError("must be a number from 0 to 1, or one for each class: {crack: 0.5}")
        # YAML reads a class that is called 1 as a number.
        return {str(name): floor for name, floor in given.items()} if isinstance(given, dict) else given

    @property
    def least_resamples(self) -> int:
        """Resamples below which a share as high as `confidence` says little: five must be able to speak against it."""
        return math.ceil(round(5 / (1 - self.confidence), 6)) if self.confidence else 0


_FEW = 64
"""So many values of a range are checked one by one."""


class SearchRange(_Strict):
    """What a search tries for one setting: ``low`` to ``high``, or one of ``choices``."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    """Tried evenly over orders of magnitude."""
    step: float | None = Field(default=None, gt=0)
    """Only ``low`` plus multiples of it. Whole numbers are tried for a setting that takes nothing else, and where low,
    high and step are whole."""
    choices: tuple[Raw | None, ...] | None = None

    @model_validator(mode="after")
    def _agree(self) -> SearchRange:
        if self.choices is not None:
            if (self.low, self.high, self.step, self.log) != (None, None, None, False):
                raise ValueError("give either choices, or low and high")
            if len(set(map(repr, self.choices))) < 2:
                raise ValueError("choices need two values or more; a single one belongs under training")
            return self
        if self.low is None or self.high is None:
            raise ValueError("give low and high, or choices")
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs low above 0 and no step")
        if self.step is not None and self.step > (self.high - self.low) * (1 + 1e-9):  # 0.4 - 0.3 is below 0.1
            raise ValueError(f"step {self.step:g} is longer than the range")
        return self

    def numbers(self, *, whole: bool) -> tuple[float, float, float | None]:
        """Low, the highest number that can be reached, and the step; whole ones where they must be.

        Args:
            whole: Whether the setting takes whole numbers only.
        """
        assert self.low is not None
        assert self.high is not None
        ends_are_whole = self.low.is_integer() and self.high.is_integer()
        if ends_are_whole and (whole if self.step is None else self.step.is_integer()):
            step = int(self.step or 1)
            return int(self.low), int(self.low) + (int(self.high) - int(self.low)) // step * step, step
        if self.step is None:
            return self.low, self.high, None
        return (
            self.low,
            round(self.low + math.floor((self.high - self.low) / self.step + 1e-9) * self.step, 12),
            self.step,
        )

    def examples(self, *, whole: bool) -> list[Any]:
        """What must all be allowed for the range to be: every value where they are few, else both ends and one between.

        Args:
            whole: Whether the setting takes whole numbers only.
        """
        if self.choices is not None:
            return list(self.choices)
        low, high, step = self.numbers(whole=whole)
        if step is None:
            return [low, high, low + 0.382 * (high - low)]  # not the middle, which may be allowed by chance
        count = round((high - low) / step)
        return [low + i * step for i in (range(count + 1) if count < _FEW else (0, count, count // 2))]


class TuningConfig(_Strict):
    """The search for better training settings: `--pipeline tuning`."""

    trials: int = Field(default=20, ge=1, le=10_000)
    seed: int = 0
    parallel: int = Field(default=1, ge=1, le=256)
    """Trials at once, each in a process of its own."""
    pruning: bool = True
    """Stop a trial early that does worse than the median of the others at the same epoch."""
    metric: str | None = None
    """`METRICS` of the task, on the val split; the gate's when absent."""
    space: dict[str, SearchRange] = Field(default_factory=dict)
    """Setting under `training` ("learning_rate", "augmentation.fliplr") to what is tried for it."""
    grid: tuple[dict[str, Raw], ...] = ()
    """Instead of a space: the very sets of settings to try, each once."""
    storage: str | None = None
    """An Optuna storage URL that several machines share; a file of this machine when absent."""

    @model_validator(mode="after")
    def _agree(self) -> TuningConfig:
        if self.space and self.grid:
            raise ValueError("give either a space to search or a grid of explicit sets")
        return self


class QuantizationConfig(_Strict):
    """The champion in 8-bit integers: `--pipeline quantize`."""

    images: int = Field(default=300, ge=1, le=10_000)
    """Of the val split, that set the ranges; all where there are fewer."""
    max_loss: float = Field(default=0.01, ge=0, le=1)
    """What `gate.metric` may lose on the same test images, against the champion or the float model it was made from,
    whichever is better: 0.01 is one point of mAP50."""


class ServingConfig(_Strict):
    """How the champion answers."""

    engine: Engine = Engine.OPENVINO
    precision: Precision = Precision.F32
    """What training seals; `int8` comes of `--pipeline quantize`."""
    confidence: float = Field(default=0.25, ge=0, le=1)
    iou: float = Field(default=0.7, ge=0, le=1)
    max_upload_bytes: int = Field(default=20_000_000, ge=1)
    port: int = Field(default=8000, ge=0, le=65535)
    """0: any free port."""
    prediction_log: bool = True
    """Remember what was asked and answered: what `--pipeline monitoring` looks at."""
    prediction_log_images: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)
    """Share of the requests whose images are kept, too: what there is to label when they change."""
    prediction_log_store: Annotated[str, AfterValidator(check_store)] | None = None
    """Where the log is kept beside its folder: `s3://bucket/prefix`, or `postgresql://user@host/database`."""

    @model_validator(mode="after")
    def _train_in_float(self) -> ServingConfig:
        if self.precision is Precision.INT8:
            raise ValueError("precision: no training gives int8; train in f32, then run --pipeline quantize")
        return self


class ReferenceKind(enum.StrEnum):
    """What traffic is compared with."""

    BUNDLE = "bundle"
    """The champion's own predictions of its val split: what changed since it was trained, however slowly."""
    WINDOW = "window"
    """Its traffic before the window: what changed lately. A slow change moves the reference along and is not seen."""


class MonitoringConfig(_Strict):
    """What the endpoint's traffic is compared by."""

    window_hours: float = Field(default=24, gt=0, allow_inf_nan=False)
    """Predictions that are looked at: those of so many hours before."""
    reference: ReferenceKind = ReferenceKind.BUNDLE
    reference_hours: float = Field(default=168, gt=0, allow_inf_nan=False)
    """With ``reference: window``: how far it reaches back from where the window begins."""
    drift: DriftSettings = DriftSettings()
    policy: RetrainPolicy = RetrainPolicy()


class Config(_Strict):
    """One use case."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=63)
    """Names the registered model and the endpoint: lower case, digits and dashes."""
    task: Task = Task.DETECTION
    data: DataConfig
    validation: ValidationPolicy = ValidationPolicy()
    training: Training = DetectionTraining()
    evaluation: EvaluationConfig = EvaluationConfig()
    gate: GateConfig = GateConfig()
    tuning: TuningConfig = TuningConfig()
    quantization: QuantizationConfig = QuantizationConfig()
    serving: ServingConfig = ServingConfig()
    monitoring: MonitoringConfig = MonitoringConfig()

    @model_validator(mode="before")
    @classmethod
    def _follow_task(cls, raw: Any) -> Any:
        """The task decides which settings `training` has, and what the gate looks at unless it is told."""
        if not isinstance(raw, dict):
            return raw
        task = raw.get("task", Task.DETECTION)
        if task not in {t.value for t in Task}:
            return raw  # the field says it better
        filled = dict(raw)
        for section, default in (("training", {"task": task}), ("gate", {"metric": METRICS[Task(task)][0]})):
            given = filled.get(section, {})
            if isinstance(given, dict):
                filled[section] = default | given
        return filled

    @model_validator(mode="after")
    def _agree(self) -> Config:
        detection = self.task is Task.DETECTION
        formats, others = (_BOX_FORMATS, _LABEL_FORMATS) if detection else (_LABEL_FORMATS, _BOX_FORMATS)
        if self.data.format in set(others) - set(formats):
            known = f"{', '.join(formats)} or auto"
            raise ValueError(f"data.format: {self.task.value} reads {known} (got {self.data.format.value!r})")
        if self.task is Task.CLASSIFICATION and len(self.data.labels) > 1:
            names = ", ".join(self.data.labels)
            raise ValueError(f"data.labels: classification has one, not {names}; keep one, or set task: attributes")
        if self.training.task != self.task:
            raise ValueError(f"training.task: {self.training.task.value} is not task {self.task.value}; leave it out")
        for key, metric in (("gate.metric", self.gate.metric), ("tuning.metric", self.tuning.metric)):
            if metric is not None and metric not in METRICS[self.task]:
                raise ValueError(f"{key}: {self.task.value} has {', '.join(METRICS[self.task])} (got {metric!r})")
        if self.evaluation.resamples < self.gate.least_resamples:
            raise ValueError(
                f"evaluation.resamples: gate.confidence {self.gate.confidence:g} needs {self.gate.least_resamples} or "
                f"more (got {self.evaluation.resamples}); raise it, or set gate.confidence: 0 to let the margin alone "
                "count"
            )
        self._refuse_impossible_trials()
        return self

    def _refuse_impossible_trials(self) -> None:
        """Known now, not in the middle of a night of training."""
        for row, settings in enumerate(self.tuning.grid):
            if problem := _training_problem(self.training, settings):
                raise ValueError(f"tuning.grid.{row}: {problem.text_with_key()}")
            if (first := self.tuning.grid.index(settings)) < row:
                raise ValueError(f"tuning.grid.{row}: the same settings stand in row {first} already (counted from 0)")
        for settings in _representative_trials(self.training, self.tuning.space):
            if problem := _training_problem(self.training, settings):
                raise ValueError(f"tuning.space.{problem.key}: {problem.text}")

    def only(self, *sections: str) -> Config:
        """The same use case with every other section at its default.

        A step that is given only what it reads is not run again when something else changes: a new gate does not train
        a new model. Nor does a number of shards, which changes the result of no step.
        """
        blank = Config.model_validate(
            {
                "name": self.name,
                "task": self.task,
                "data": DataConfig(source=FolderSource(kind="folder", path=Path()), format=self.data.format),
            }
        )
        others = {n for n in type(self).model_fields if n not in {"name", "task", *sections}}
        whole: dict[str, Any] = {"validation": self.validation.model_copy(update={"shards": blank.validation.shards})}
        if "evaluation" in others:  # whose resamples the gate's confidence is checked against
            whole["gate"] = self.gate.model_copy(update={"confidence": blank.gate.confidence})
        return self.model_copy(update=whole | {n: getattr(blank, n) for n in others})


def takes_whole_numbers(training: Training, key: str) -> bool:
    """Whether the setting ``key`` under ``training`` refuses a number because it is not whole."""
    try:
        _changed(training, {key: 0.5})
    except ValidationError as error:
        return any(problem["type"] == "int_from_float" for problem in error.errors())
    except ValueError:
        return False
    return False


def with_training(config: Config, settings: Mapping[str, Any], origin: str) -> Config:
    """The same use case with some settings under ``training`` changed, through the checks of ``--set``.

    Args:
        settings: Dotted keys below ``training`` ("augmentation.fliplr") to values.
        origin: Where they come from, for messages.

    Raises:
        ConfigError: An unknown setting, or a value that it does not take.
    """
    if problem := _training_problem(config.training, settings):
        raise ConfigError(f"{origin}: {problem.text_with_key()}")
    return config.model_copy(update={"training": _changed(config.training, settings)})


class _Problem(NamedTuple):
    key: str
    """Of the setting, below ``training``."""
    text: str
    """What is wrong with it, and the mend."""

    def text_with_key(self) -> str:
        return self.text if self.text.startswith("unknown key") else f"training.{self.key}: {self.text}"


def _representative_trials(training: Training, space: Mapping[str, SearchRange]) -> Iterator[dict[str, Any]]:
    """Settings of which one is refused, if the search could come upon what is refused.

    Every value with each other setting at its first, then every pair of values; of long ranges three.
    """
    values = {key: found.examples(whole=takes_whole_numbers(training, key)) for key, found in space.items()}
    first = {key: examples[0] for key, examples in values.items()}
    for key, examples in values.items():
        yield from ({**first, key: value} for value in examples)
    for one, other in itertools.combinations(values, 2):
        for a, b in itertools.product(_few(values[one]), _few(values[other])):
            yield {**first, one: a, other: b}


def _few(values: list[Any]) -> list[Any]:
    """All of a few (choices are rarely more), else ends and middle."""
    return values if len(values) <= 8 else [values[0], values[len(values) // 2], values[-1]]


def _training_problem(training: Training, settings: Mapping[str, Any]) -> _Problem | None:
    """What forbids these settings; None when nothing does."""
    if "task" in settings:
        return _Problem("task", "is of the use case, and no setting to try; leave it out")
    try:
        _changed(training, settings)
    except ValidationError as error:
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        location = ".".join(map(str, first["loc"]))
        if not location:  # two settings contradict each other; the message begins with the one to mend
            key, _, text = first["msg"].removeprefix("Value error, ").partition(": ")
            return _Problem(key, text)
        # Of a union, the location goes on with the name of the alternative.
        key = next((key for key in settings if location.startswith(key)), location)
        text = _problem(first, ("training", *key.split(".")), {"task": training.task.value})
        return _Problem(key, text.removeprefix(f"training.{key}: "))
    except ValueError as error:
        return _Problem(*str(error).split(": ", 1))
    return None


def _changed(training: Training, settings: Mapping[str, Any]) -> Training:
    raw = training.model_dump(mode="json")
    for key, value in settings.items():
        *parents, last = key.split(".")
        node = raw
        for part in parents:
            if node.get(part) is None:
                node[part] = {}
            node = node[part]
            if not isinstance(node, dict):
                raise ValueError(f"{key}: {part!r} holds a value, not settings")  # noqa: TRY004 - of a person's file
        node[last] = value
    return type(training).model_validate(raw)


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
    return parse_settings(text, path, Config, overrides)


def parse_settings(text: str, path: Path, schema: type[_Schema], overrides: Sequence[str] = ()) -> _Schema:
    """Check the text of a YAML file against ``schema``, which forbids unknown keys.

    Args:
        path: Named in errors.
        overrides: ``key.sub=value`` each; the value is read as YAML.

    Raises:
        ConfigError: With file and line, or the override, and the mend.
    """
    try:
        root = yaml.compose(text, Loader=_UniqueKeyLoader)
        raw = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader that also refuses doubled keys
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}:1: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        first = next(iter(schema.model_fields))
        raise ConfigError(f"{path}:1: must be a mapping of settings, such as '{first}: …'")
    places = {key: f"{path}:{line}" for key, line in _lines(root)}
    for override in overrides:
        key, value = _parse_override(override)
        _assign(raw, key, value, override)
        for depth in range(1, len(key) + 1):
            if depth == len(key) or key[:depth] not in places:
                places[key[:depth]] = f"--set {override}"
    try:
        return schema.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(_explain(error, raw, places, path, schema)) from error


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
    text = text.strip()
    try:
        value = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not valid YAML") from error
    # On a command line # begins no comment: it may stand in the name of a folder.
    is_plain = text.startswith("#") or (isinstance(value, str) and text[0] not in "'\"|>!&")
    return tuple(key.strip().split(".")), text if is_plain else value


def _assign(raw: dict[str, Any], key: _Key, value: Any, override: str) -> None:
    node = raw
    for part in key[:-1]:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override}: {part!r} holds a value, not settings")
        node = child
    node[key[-1]] = value


def _explain(
    error: ValidationError, raw: dict[str, Any], places: dict[_Key, str], path: Path, schema: type[BaseModel]
) -> str:
    """One line for the first mistake, and how many more there are."""
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    location = [str(part) for part in first["loc"]]
    message = first["msg"].removeprefix("Value error, ")
    if not location:  # two sections contradict each other; the message begins with the one to mend
        dotted, _, message = message.partition(": ")
        location = dotted.split(".")
    # A discriminated union puts the chosen tag into the location; it is no key of the file.
    key = tuple(part for i, part in enumerate(location) if not (i and part in _TAGS.get(location[i - 1], ())))
    setting, _, rest = message.partition(": ")
    if rest and setting.split(".")[0] in _known_keys(key, raw, schema):  # and so when settings of one section do
        key, message = (*key, *setting.split(".")), rest
    lines = {".".join(known): line for known, line in places.items()}  # a key of tuning.space has dots of its own
    place = next((lines[at] for n in range(len(key), 0, -1) if (at := ".".join(key[:n])) in lines), f"{path}:1")
    more = error.error_count() - 1
    return f"{place}: {_problem({**first, 'msg': message}, key, raw, schema)}" + (f" (and {more} more)" if more else "")


def _problem(error: Mapping[str, Any], key: _Key, raw: dict[str, Any], schema: type[BaseModel] = Config) -> str:
    """One mistake in words, and its mend where there is one."""
    dotted = ".".join(key)
    if error["type"] == "extra_forbidden":
        known = _known_keys(key[:-1], raw, schema)
        near = difflib.get_close_matches(key[-1], known, n=1, cutoff=0.5)
        mend = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        return f"unknown key {dotted!r}; {mend}"
    if error["type"] == "missing":
        return f"{dotted!r} is missing"
    got = "" if isinstance(error["input"], dict) or error["type"] == SECRET_ERROR else f" (got {error['input']!r})"
    return f"{dotted}: {error['msg'].removeprefix('Value error, ')}{got}"


_SOURCE_KINDS: dict[str, type[BaseModel]] = {
    get_args(model.model_fields["kind"].annotation)[0]: model
    for model in (FolderSource, ArchiveSource, PackageSource, SampleSource)
}
_TAGS: dict[str, set[str]] = {
    **{key: set(_SOURCE_KINDS) for key in ("source", "additions")},
    "training": {task.value for task in Task},
}


def _known_keys(parent: _Key, raw: dict[str, Any], schema: type[BaseModel]) -> list[str]:
    """The keys that stand below ``parent``; none where any may."""
    annotation: Any = schema
    for part in parent:
        annotation = _below(annotation, part, raw)
    return sorted(annotation.model_fields) if _is_model(annotation) else []


def _below(annotation: Any, part: str, raw: dict[str, Any]) -> Any:
    """The type of the value under the key ``part``."""
    if not _is_model(annotation):
        arguments = [a for a in get_args(annotation) if a is not type(None)]
        return arguments[-1] if get_origin(annotation) is dict else arguments[0] if arguments else None
    if part in {"source", "additions"}:
        source = raw.get("data", {}).get(part, {})
        return _SOURCE_KINDS.get(source.get("kind", "folder"), FolderSource)
    if annotation is Config and part == "training":
        return DetectionTraining if raw.get("task", Task.DETECTION) == Task.DETECTION else LabelTraining
    if part not in annotation.model_fields:
        return None
    annotation = annotation.model_fields[part].annotation
    inside = get_args(annotation)
    # A section that may be absent.
    return next(filter(_is_model, inside), annotation) if type(None) in inside else annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
