"""Which data to take, how their labels are written, how they are cut and what stops a run."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from visionops.addresses import check_google_prefix, check_prefix, check_url
from visionops.data.findings import Code, Severity
from visionops.data.label_rules import LabelRule, WeightRule
from visionops.inference.preprocessing_spec import Tiling
from visionops.settings import Settings

__all__ = [
    "FORMATS_BY_LAYER",
    "Additions",
    "ArchiveSource",
    "DataConfig",
    "DvcSource",
    "FolderSource",
    "Format",
    "GoogleSource",
    "PackageSource",
    "ReviewSource",
    "S3Source",
    "SampleSource",
    "Source",
    "SplitConfig",
    "TrainingTiles",
    "UrlSource",
    "ValidationPolicy",
]


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
    FIFTYONE = "fiftyone"
    """FiftyOne's image detection or classification dataset: `labels.json` beside `data/`."""
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


BOX_FORMATS = (
    Format.VISION,
    Format.COCO,
    Format.YOLO,
    Format.VOC,
    Format.LABELME,
    Format.CVAT,
    Format.VIA,
    Format.LABEL_STUDIO,
    Format.FIFTYONE,
    Format.CSV,
    Format.IMAGEFOLDER,
)


LABEL_FORMATS = (Format.FOLDERS, Format.TABLE, Format.IMAGEFOLDER, Format.LABEL_STUDIO, Format.FIFTYONE)


FORMATS_BY_LAYER = {"boxes": BOX_FORMATS, "labels": LABEL_FORMATS}
"""What our readers read, by the name of the annotations."""


class FolderSource(Settings):
    """A folder on this machine."""

    kind: Literal["folder"]
    path: Path
    """The folder; relative to where the command is run."""


class ArchiveSource(Settings):
    """A zip, tar or 7z archive on this machine, unpacked once."""

    kind: Literal["archive"]
    path: Path
    """The archive; relative to where the command is run."""


class PackageSource(Settings):
    """A data set that comes as a Python package: `pip install` brings it."""

    kind: Literal["package"]
    package: str
    """As in `pip install`: elpv-dataset."""
    folder: str
    """Where the data lies, relative to where packages are installed: elpv_dataset/data."""


class SampleSource(Settings):
    """Rendered surface images with defects: needs no data and no network."""

    kind: Literal["sample"]
    images: int = Field(default=160, ge=12, le=100_000)
    """Number of images."""
    size: int = Field(default=320, ge=64, le=4096)
    """Width and height in pixels."""
    difficulty: float = Field(default=0.3, ge=0, le=1)
    """0: strong contrast, little texture; 1: faint defects on strong texture."""
    clean_share: float = Field(default=0.1, ge=0, le=0.9)
    """Share of images without a defect."""
    seed: int = 0
    """Same seed, same images."""


class S3Source(Settings):
    """A prefix of an object store, fetched once. The endpoint and the credentials are those of the environment."""

    kind: Literal["s3"]
    uri: Annotated[str, AfterValidator(check_prefix)]
    """`s3://bucket/prefix`, with images and labels as in a folder."""


class GoogleSource(Settings):
    """A prefix of Google Cloud Storage, fetched once. The credentials are those of the environment."""

    kind: Literal["gs"]
    uri: Annotated[str, AfterValidator(check_google_prefix)]
    """`gs://bucket/prefix`, with images and labels as in a folder; `gs://anonymous@bucket/prefix` if it is public."""


class UrlSource(Settings):
    """A zip, tar or 7z archive on a web server, downloaded and unpacked once. A download that was cut short goes on."""

    kind: Literal["url"]
    url: Annotated[str, AfterValidator(check_url)]
    """`https://host/path`, without a login: `~/.netrc` has those."""
    sha256: Annotated[str, AfterValidator(str.lower), Field(pattern=r"^[0-9A-Fa-f]{64}$")]
    """What `sha256sum` says of the archive. Anything else is refused, and nothing is left of it."""


class DvcSource(Settings):
    """A folder that DVC tracks, in a repository on this machine; `dvc pull` brings what is missing."""

    kind: Literal["dvc"]
    path: Path
    """The folder, or one below it; relative to where the command is run."""
    remote: str | None = None
    """Name of the DVC remote; the repository's default when absent."""


class ReviewSource(Settings):
    """What people have decided in the review of a use case (`visionops review`). Additions only."""

    kind: Literal["review"]
    use_case: str | None = None
    """Name in review; this use case's own when absent."""
    version: int | None = Field(default=None, ge=1)
    """Number of the data version to train on, again and again. When absent, a training makes the next version of all
    that was decided since, and takes the newest."""


Source = Annotated[
    FolderSource | ArchiveSource | UrlSource | PackageSource | SampleSource | S3Source | GoogleSource | DvcSource,
    Field(discriminator="kind"),
]
Additions = Annotated[
    FolderSource
    | ArchiveSource
    | UrlSource
    | PackageSource
    | SampleSource
    | S3Source
    | GoogleSource
    | DvcSource
    | ReviewSource,
    Field(discriminator="kind"),
]


class SplitConfig(Settings):
    """Shares of val and test where the data set does not give them."""

    val: float = Field(default=0.15, gt=0, lt=1)
    """Share of the images for validation."""
    test: float = Field(default=0.15, gt=0, lt=1)
    """Share of the images for the test split."""
    seed: int = 0
    """Another seed deals the images out differently."""

    @model_validator(mode="after")
    def _leave_some_for_training(self) -> SplitConfig:
        if self.val + self.test >= 0.9:
            raise ValueError(f"val {self.val} + test {self.test} leave less than a tenth for training")
        return self


class DataConfig(Settings):
    """Where the images and labels are, and which of them to take."""

    source: Source
    """Where the images and labels come from."""
    additions: Additions | None = None
    """Images of the line that were labelled since, in the same format; the folder may be empty still. Training adds
    them to the source, whose images keep their splits; `--pipeline monitoring` scores the champion on those it has not
    seen. `kind: review` takes what people have decided by `visionops review`."""
    format: Format = Format.AUTO
    """How the labels are written; `auto` recognizes it."""
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
    "crowds": (Format.COCO, Format.CSV, Format.VISION),
    "products": (Format.VISION,),
    "labels": (Format.FOLDERS, Format.TABLE, Format.IMAGEFOLDER),
    "categories": BOX_FORMATS,
}
"""Keys of `data` to the formats they are for; any of them with `auto`, whose reading they narrow down."""


class ValidationPolicy(Settings):
    """Which findings stop the run, and the limits they are judged by.

    An `error` stops the run. A `warning` is mended (the image or box is left out, clipped, converted or kept on one
    side) and listed.
    """

    severities: dict[Code, Severity] = Field(default_factory=dict)
    """Overrides by finding code, as `leak: error`."""
    shards: int = Field(default=1, ge=1, le=1000)
    """Steps that the images are decoded in, which a cluster runs at once; the report is the same."""
    min_images: int = Field(default=10, ge=1)
    """Usable labelled images that the data set needs."""
    min_instances: int = Field(default=1, ge=0)
    """Boxes each class needs in train."""
    max_pixels: int = Field(default=100_000_000, ge=1)
    """Largest accepted width x height of an image."""
    near_duplicate_distance: int = Field(default=4, ge=0, le=16)
    """Hamming distance of 64-bit perceptual hashes up to which two images count as near duplicates."""

    def without_shards(self) -> ValidationPolicy:
        """Return the policy of a single step: the number of shards changes no result, so no cache key has it."""
        return self.model_copy(update={"shards": 1})


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
