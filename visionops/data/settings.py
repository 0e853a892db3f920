"""Settings for data: the source, the label format, the splits and validation."""

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
    """Format of the labels."""

    AUTO = "auto"
    """Detected from the files; several possible formats are an error that lists them."""
    VISION = "vision"
    """COCO, `{product}/{train,val,inference}/_annotations.coco.json` beside the images."""
    COCO = "coco"
    """COCO, one or several JSON files of any name, images in any sub-folder."""
    YOLO = "yolo"
    """`data.yaml` or `obj.data`, or neither; `images/…` and `labels/…`."""
    VOC = "voc"
    """Pascal VOC: one XML file per image, in `Annotations/` or beside it; `ImageSets/Main/*.txt`."""
    LABELME = "labelme"
    """labelme: one JSON file per image."""
    CVAT = "cvat"
    """CVAT for images 1.1: one XML file."""
    VIA = "via"
    """VGG Image Annotator: a JSON project or its export."""
    LABEL_STUDIO = "label_studio"
    """Label Studio's own JSON."""
    FIFTYONE = "fiftyone"
    """FiftyOne's image detection or classification dataset: `labels.json` beside `data/`."""
    CSV = "csv"
    """A table with one row per box: `filename,xmin,ymin,xmax,ymax,class`."""
    FOLDERS = "folders"
    """One folder per class, `{class}/…` or `{train,val,test}/{class}/…`."""
    TABLE = "table"
    """A CSV, TSV, Parquet or Excel file with one row per image and one column per attribute."""
    IMAGEFOLDER = "imagefolder"
    """Hugging Face: `metadata.jsonl`, `.csv` or `.parquet` beside the images."""
    MVTEC = "mvtec"
    """MVTec AD: `train/good`, `test/{good,…}`, `ground_truth/`. Recognized, but refused because no task supports it."""


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
"""Formats that our readers support, by the layer that they create."""


class FolderSource(Settings):
    """A folder on this machine."""

    kind: Literal["folder"]
    path: Path
    """The folder, relative to the working directory of the command."""


class ArchiveSource(Settings):
    """A zip, tar or 7z archive on this machine, unpacked once."""

    kind: Literal["archive"]
    path: Path
    """The archive; relative to where the command is run."""


class PackageSource(Settings):
    """A data set that is a Python package, installed with `pip install`."""

    kind: Literal["package"]
    package: str
    """Name for `pip install`: elpv-dataset."""
    folder: str
    """Folder of the data, relative to where packages are installed: elpv_dataset/data."""


class SampleSource(Settings):
    """Rendered surface images with defects: need no data and no network."""

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
    """A prefix of an object store, fetched once. The endpoint and the credentials come from the environment."""

    kind: Literal["s3"]
    uri: Annotated[str, AfterValidator(check_prefix)]
    """`s3://bucket/prefix`, with images and labels as in a folder."""


class GoogleSource(Settings):
    """A prefix of Google Cloud Storage, fetched once. The credentials come from the environment."""

    kind: Literal["gs"]
    uri: Annotated[str, AfterValidator(check_google_prefix)]
    """`gs://bucket/prefix`, with images and labels as in a folder; `gs://anonymous@bucket/prefix` if it is public."""


class UrlSource(Settings):
    """A zip, tar or 7z archive on a web server, downloaded and unpacked once. An interrupted download is resumed."""

    kind: Literal["url"]
    url: Annotated[str, AfterValidator(check_url)]
    """`https://host/path`, without a login: put logins into `~/.netrc`."""
    sha256: Annotated[str, AfterValidator(str.lower), Field(pattern=r"^[0-9A-Fa-f]{64}$")]
    """Output of `sha256sum` for the archive. An archive with another checksum is refused and removed."""


class DvcSource(Settings):
    """A folder that DVC tracks, in a repository on this machine; `dvc pull` fetches missing files."""

    kind: Literal["dvc"]
    path: Path
    """The folder, or one below it, relative to the working directory of the command."""
    remote: str | None = None
    """Name of the DVC remote; the repository's default if absent."""


class ReviewSource(Settings):
    """Decisions of people in the review of a use case (`visionops review`). Additions only."""

    kind: Literal["review"]
    use_case: str | None = None
    """Name in review; this use case's own if absent."""
    version: int | None = Field(default=None, ge=1)
    """Number of a fixed data version to train on. If absent, each training makes a new version of all decisions since
    the last one, and uses the newest."""


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
    """Shares of val and test, if the data set has no splits of its own."""

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
    """Location of the images and labels, and which of them to use."""

    source: Source
    """Where the images and labels come from."""
    additions: Additions | None = None
    """Images of the line that were labelled later, in the same format; the folder may still be empty. Training adds
    them to the source, whose images keep their splits; `--pipeline monitoring` scores the champion on those it has not
    seen. `kind: review` uses the decisions of people in `visionops review`."""
    format: Format = Format.AUTO
    """How the labels are written; `auto` recognizes it."""
    annotations: str | tuple[str, ...] | None = None
    """`coco` only: the JSON file or files, relative to the source; all COCO files if absent."""
    crowds: Literal["ignore", "objects"] = "ignore"
    """`coco` and `vision` only: meaning of annotations with `iscrowd: 1`: groups, which are left out, or objects."""
    table: str | None = None
    """`table` only: the table, relative to the source; the only one if absent."""
    delimiter: str = ","
    """`table` only: one character; `whitespace` for any run of blanks."""
    columns: tuple[str, ...] | None = None
    """`table` only: names of the columns of a CSV without a header; if absent, the first line is the header."""
    image_column: str | None = None
    """`table` only: the column with the image's path, relative to the CSV; the first if absent."""
    lots: tuple[str, ...] | None = None
    """`table` only: folders to use; all if absent. Images without a row are for batch inference."""
    labels: dict[str, LabelRule] = Field(default_factory=dict)
    """`folders`, `table`: rule for each attribute that derives it from raw values. If absent, each class folder is a
    class, and each column of a table an attribute with its values as classes; of two, 1, true or yes is positive."""
    weights: WeightRule | None = None
    """`table` only: weights of images in training."""
    group_column: str | None = None
    """`table` only: images with the same value in this column (one part, one person) stay in one split."""
    split_column: str | None = None
    """`table` only: the column with train, val or test; images with an empty value have no split."""
    products: tuple[str, ...] | None = None
    """`vision` only: folders to use; all if absent."""
    categories: tuple[str, ...] | None = None
    """Classes of boxes to keep; all if absent. Images that lose their boxes stay, as empty images."""
    white_level: int | None = Field(default=None, ge=1, le=65535)
    """Value of 16-bit files that maps to 255; brighter values are clipped. If absent, the largest value of 8, 10, 12,
    14 or 16 bits that holds the brightest sample of the data set. The bundle stores it, so that the server uses the
    same."""
    notes: tuple[str, ...] = ()
    """Remarks on the data that readers of the results should know; they are stored with it and printed."""
    split: SplitConfig = SplitConfig()

    @model_validator(mode="after")
    def _agree(self) -> DataConfig:
        for key, formats in _ONLY_WITH.items():
            # Not model_fields_set: settings that were dumped and read again have every field set.
            if getattr(self, key) != type(self).model_fields[key].get_default(call_default_factory=True) and (
                self.format not in (Format.AUTO, *formats)
            ):
                known = " or ".join(formats)
                raise ValueError(f"{key}: only for format {known} (got {self.format.value}); remove it")
        if self.delimiter != "whitespace" and (len(self.delimiter) != 1 or self.delimiter in '"\r\n\0'):
            raise ValueError(f"delimiter: must be one character, or 'whitespace' (got {self.delimiter!r})")
        if self.columns is not None and len(set(self.columns)) < len(self.columns):
            raise ValueError("columns: duplicate column name")
        if self.format is Format.FOLDERS:
            if len(self.labels) > 1:
                raise ValueError(f"labels: class folders allow one attribute (got {', '.join(self.labels)})")
            for name, rule in self.labels.items():
                if rule.column is not None:
                    raise ValueError(f"labels.{name}.column: only for format table; remove it")
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
"""Maps keys of `data` to the formats they apply to; any of them is allowed with `auto`, which they narrow down."""


class ValidationPolicy(Settings):
    """Severities of findings and the limits that they use.

    An `error` stops the run. A `warning` is fixed (the image or box is left out, clipped, converted or kept in one
    split) and listed.
    """

    severities: dict[Code, Severity] = Field(default_factory=dict)
    """Severities by finding code, such as `leak: error`."""
    shards: int = Field(default=1, ge=1, le=1000)
    """Number of steps that decode the images, which a cluster runs in parallel; the report is the same."""
    min_images: int = Field(default=10, ge=1)
    """Usable labelled images that the data set needs."""
    min_instances: int = Field(default=1, ge=0)
    """Minimum number of boxes of each class in train."""
    max_pixels: int = Field(default=100_000_000, ge=1)
    """Largest accepted width x height of an image."""
    near_duplicate_distance: int = Field(default=4, ge=0, le=16)
    """Maximum Hamming distance of 64-bit perceptual hashes for two images to count as near duplicates."""

    def without_shards(self) -> ValidationPolicy:
        """Return the policy with one shard: the number of shards changes no result, so cache keys leave it out."""
        return self.model_copy(update={"shards": 1})


class TrainingTiles(Tiling):
    """Tiles of large images, and which of them the detector is trained on."""

    min_visible: float = Field(default=0.3, gt=0, le=1)
    """Minimum share of a box that a tile must show (for a box larger than a tile: of what a tile can show). Smaller
    remains count as background, so that the detector leaves them to the neighbouring tile."""
    keep_empty: float = Field(default=0.2, ge=0, le=1)
    """Share of tiles without any part of a box to train on, too. Most tiles of a casting are empty."""

    @property
    def tiling(self) -> Tiling:
        """Tiling settings for the bundle's card."""
        return Tiling(size=self.size, overlap=self.overlap, max_tiles=self.max_tiles)
