"""The one in-memory form of a labelled image collection.

Arrow tables, never a list of Python objects: ``images`` (a row an image), and what is known of them: ``boxes`` (a row
an annotation, pointing at its image by row number) or ``labels`` (a row an image, a column an attribute). Image bytes
are *referenced*: ``path`` says where they lie now and ``sha256`` what they are, so that a data set of a million images
travels between steps as a few megabytes.

>>> dataset.num_images, dataset.class_names
(1800, ('crazing', 'inclusion', 'patches', 'pitted_surface', 'rolled-in_scale', 'scratches'))
>>> dataset.select_split(Split.TEST).boxes_of(0).xyxy
array([[17.,  2., 55., 98.]])
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from visionops.data.findings import Finding
from visionops.errors import DataError, one_line
from visionops.inference.preprocessing_spec import FULL_WHITE

__all__ = ["ADDED", "BOXES_SCHEMA", "IMAGES_SCHEMA", "Attribute", "Boxes", "Dataset", "Split"]


class Split(enum.StrEnum):
    """Which part an image plays. ``NONE``: not decided yet; ``UNLABELLED``: for batch inference only."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"
    UNLABELLED = "unlabelled"
    NONE = ""


IMAGES_SCHEMA = pa.schema(
    [
        ("key", pa.string()),  # unique; relative POSIX path below the data set, e.g. "Steel/train/000007.jpg"
        ("path", pa.string()),  # absolute path of the bytes on this machine; "" when not at hand
        ("sha256", pa.string()),  # of the encoded bytes, lower-case hex; "" until hashed
        ("num_bytes", pa.int64()),  # of the encoded file; -1 when the file is missing
        ("width", pa.int32()),  # pixels, after EXIF rotation; 0 when unknown
        ("height", pa.int32()),
        ("split", pa.string()),  # a `Split`
        ("plain", pa.bool_()),  # `ImageHeader.is_plain`: every decoder gives the same pixels; null until looked at
        ("group", pa.string()),  # what must stay in one split (a duplicate cluster, a part number); "" = alone
        ("weight", pa.float32()),  # how much the image counts in training; 1 unless the labels say how sure they are
        ("phash", pa.uint64()),  # perceptual hash, and thumbnail uint8 (16, 16), grey; null until looked at
        ("look", pa.binary(256)),
    ]
)

ADDED = "additions/"
"""Before the keys of images that people labelled since."""

BOXES_SCHEMA = pa.schema(
    [
        ("image", pa.int64()),  # row of `images`
        ("class_id", pa.int32()),  # index into `class_names`
        ("x1", pa.float64()),  # xyxy, pixels of the image after EXIF rotation
        ("y1", pa.float64()),
        ("x2", pa.float64()),
        ("y2", pa.float64()),
        ("source_id", pa.string()),  # how the source names this annotation, for messages
    ]
)


@dataclasses.dataclass(frozen=True, slots=True)
class Boxes:
    """The boxes of one image."""

    xyxy: npt.NDArray[np.float64]
    """float64 (N, 4), pixels of the image after EXIF rotation."""
    class_ids: npt.NDArray[np.int32]
    """int32 (N,)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Attribute:
    """A question that every image answers with one of its classes; a plain classification has one."""

    name: str
    class_names: tuple[str, ...]
    """In the order of class ids."""
    positive: str | None = None
    """Of two classes, the one that is looked for ("defective")."""

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Attribute:
        """Inverse of `dataclasses.asdict`."""
        return cls(raw["name"], tuple(raw["class_names"]), raw["positive"])


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images and their boxes with ``class_names``, or their labels with ``attributes``, in columns.

    ``notes`` are sentences a person should read about how this data set came to be ("test was cut from val").
    """

    name: str
    class_names: tuple[str, ...]
    images: pa.Table
    boxes: pa.Table
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    """What the reader could not represent (an annotation of an unknown image) or saw beside it (an orphan file)."""
    attributes: tuple[Attribute, ...] = ()
    labels: pa.Table = dataclasses.field(default_factory=lambda: pa.table({}))
    """A row an image; for each attribute an int32 column of its name: the class id, null where it is not known."""
    white_level: int | None = None
    """Value of 16-bit samples that becomes 255, by the configuration or by what validation found; None until then."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "notes", tuple(map(one_line, self.notes)))
        wanted = _labels_schema(self.attributes)
        if not self.attributes:
            object.__setattr__(self, "labels", pa.table({}))
        elif self.labels.schema != wanted:
            object.__setattr__(self, "labels", self.labels.select(wanted.names).cast(wanted))
        if self.images.schema != IMAGES_SCHEMA:
            object.__setattr__(self, "images", self.images.select(IMAGES_SCHEMA.names).cast(IMAGES_SCHEMA))
        if self.boxes.schema != BOXES_SCHEMA:
            object.__setattr__(self, "boxes", self.boxes.select(BOXES_SCHEMA.names).cast(BOXES_SCHEMA))

    @classmethod
    def from_columns(
        cls,
        name: str,
        class_names: Sequence[str],
        images: dict[str, Any],
        boxes: dict[str, Any],
        notes: Sequence[str] = (),
        findings: Sequence[Finding] = (),
        attributes: Sequence[Attribute] = (),
        labels: dict[str, Any] | None = None,
        white_level: int | None = None,
    ) -> Dataset:
        """Build from columns (lists or arrays). Absent image columns get their "unknown" value.

        Args:
            images: Must have ``key``; see `IMAGES_SCHEMA` for the others.
            boxes: All columns of `BOXES_SCHEMA`; ``source_id`` may be absent. ``{}`` for no boxes.
            labels: For each attribute its class ids, None where not known.
        """
        n = len(images["key"])
        unknown: dict[str, Any] = {
            "path": "",
            "sha256": "",
            "num_bytes": -1,
            "width": 0,
            "height": 0,
            "split": "",
            "plain": None,
            "group": "",
            "weight": 1.0,
            "phash": None,
            "look": None,
        }
        full = {f.name: images.get(f.name, pa.repeat(pa.scalar(unknown.get(f.name), f.type), n)) for f in IMAGES_SCHEMA}
        m = len(boxes.get("image", ()))
        full_boxes = {**{f.name: [] for f in BOXES_SCHEMA}, "source_id": [""] * m, **boxes}
        return cls(
            name=name,
            class_names=tuple(class_names),
            images=pa.table({f.name: pa.array(full[f.name], type=f.type) for f in IMAGES_SCHEMA}, schema=IMAGES_SCHEMA),
            boxes=pa.table(
                {f.name: pa.array(full_boxes[f.name], type=f.type) for f in BOXES_SCHEMA}, schema=BOXES_SCHEMA
            ),
            notes=tuple(notes),
            findings=tuple(findings),
            attributes=tuple(attributes),
            labels=pa.table(
                {a.name: pa.array((labels or {})[a.name], type=pa.int32()) for a in attributes},
                schema=_labels_schema(attributes),
            ),
            white_level=white_level,
        )

    @property
    def white(self) -> int:
        """By what the 16-bit images are decoded: the white level, 65535 until it is known."""
        return self.white_level or FULL_WHITE

    @property
    def num_images(self) -> int:
        """Number of images."""
        return int(self.images.num_rows)

    @property
    def num_boxes(self) -> int:
        """Number of boxes over all images."""
        return int(self.boxes.num_rows)

    @property
    def all_class_names(self) -> tuple[str, ...]:
        """The classes of boxes; of one attribute, its classes; of several, ``attribute=class`` for each."""
        if len(self.attributes) == 1:
            return self.attributes[0].class_names
        return self.class_names or tuple(f"{a.name}={c}" for a in self.attributes for c in a.class_names)

    def describe(self) -> str:
        """How much there is of what, for people: "1800 images, 4189 boxes, 6 classes"."""
        if not self.attributes:
            return f"{self.num_images} images, {self.num_boxes} boxes, {len(self.class_names)} classes"
        if len(self.attributes) == 1:
            return f"{self.num_images} images, {len(self.attributes[0].class_names)} classes"
        return f"{self.num_images} images, {len(self.attributes)} attributes, {len(self.all_class_names)} classes"

    def label_array(self) -> npt.NDArray[np.int32]:
        """Class ids, int32 (images, attributes); -1 where not known."""
        columns = [self.labels.column(a.name).fill_null(-1).to_numpy() for a in self.attributes]
        return np.stack(columns, axis=1).astype(np.int32) if columns else np.empty((self.num_images, 0), np.int32)

    def presence(self) -> npt.NDArray[np.bool_]:
        """Which image shows which class, bool (images, classes in the order of `all_class_names`)."""
        shown = np.zeros((self.num_images, len(self.all_class_names)), dtype=np.bool_)
        if not self.attributes:
            image, class_ids, _ = self.box_arrays()
            shown[image, class_ids] = True
            return shown
        labels = self.label_array()
        first = 0
        for column, attribute in enumerate(self.attributes):
            rows = np.flatnonzero(labels[:, column] >= 0)
            shown[rows, first + labels[rows, column]] = True
            first += len(attribute.class_names)
        return shown

    def column(self, name: str) -> list[Any]:
        """One column of ``images`` as a Python list."""
        return list(self.images.column(name).to_pylist())

    def paths(self) -> list[Path]:
        """Where the bytes of each image lie, in row order."""
        return [Path(p) for p in self.column("path")]

    def box_arrays(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float64]]:
        """All boxes at once: image row (M,), class id (M,), xyxy (M, 4)."""
        xyxy = np.stack([self.boxes.column(c).to_numpy() for c in ("x1", "y1", "x2", "y2")], axis=1)
        return self.boxes.column("image").to_numpy(), self.boxes.column("class_id").to_numpy(), xyxy.reshape(-1, 4)

    def boxes_of(self, row: int) -> Boxes:
        """The boxes of the image at ``row``. For all images use `boxes_by_image`."""
        image, class_ids, xyxy = self.box_arrays()
        mask = image == row
        return Boxes(xyxy[mask], class_ids[mask])

    def boxes_by_image(self) -> list[Boxes]:
        """The boxes of every image, in row order, in one pass."""
        image, class_ids, xyxy = self.box_arrays()
        order = np.argsort(image, kind="stable")
        cuts = np.searchsorted(image[order], np.arange(1, self.num_images))
        pairs = zip(np.split(xyxy[order], cuts), np.split(class_ids[order], cuts), strict=True)
        return [Boxes(b, c) for b, c in pairs][: self.num_images]

    def split_counts(self) -> dict[str, int]:
        """Images per split, splits in the order of `Split`, empty ones left out."""
        column = self.column("split")
        return {s.value: n for s in Split if (n := column.count(s.value))}

    def replace_column(self, name: str, values: Sequence[Any] | npt.NDArray[Any]) -> Dataset:
        """A copy with one column of ``images`` replaced."""
        field = IMAGES_SCHEMA.field(name)
        index = IMAGES_SCHEMA.get_field_index(name)
        return dataclasses.replace(self, images=self.images.set_column(index, field, pa.array(values, type=field.type)))

    def take_evenly(self, count: int) -> Dataset:
        """Up to ``count`` images, spread evenly over all."""
        rows = np.unique(np.linspace(0, self.num_images - 1, min(count, self.num_images)).round().astype(np.int64))
        return self.take(rows)

    def take(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> Dataset:
        """The images at ``rows``, in that order, with their boxes."""
        wanted = np.asarray(rows, dtype=np.int64)
        new_row = np.full(self.num_images, -1, dtype=np.int64)
        new_row[wanted] = np.arange(len(wanted))
        image = self.boxes.column("image").to_numpy()
        mapped = new_row[image] if len(image) else image
        keep = np.flatnonzero(mapped >= 0)
        keep = keep[np.argsort(mapped[keep], kind="stable")]
        boxes = self.boxes.take(pa.array(keep)).set_column(0, BOXES_SCHEMA.field("image"), pa.array(mapped[keep]))
        images = self.images.take(pa.array(wanted))
        labels = self.labels.take(pa.array(wanted)) if self.attributes else self.labels
        return dataclasses.replace(self, images=images, boxes=boxes, labels=labels)

    def select_classes(self, class_ids: Sequence[int]) -> Dataset:
        """Keep the boxes of these classes alone, numbered anew in this order; images stay."""
        new_ids = np.full(len(self.class_names), -1, dtype=np.int32)
        new_ids[list(class_ids)] = np.arange(len(class_ids))
        mapped = new_ids[self.boxes.column("class_id").to_numpy()] if self.num_boxes else new_ids[:0]
        keep = np.flatnonzero(mapped >= 0)
        boxes = self.boxes.take(pa.array(keep)).set_column(
            BOXES_SCHEMA.get_field_index("class_id"), BOXES_SCHEMA.field("class_id"), pa.array(mapped[keep])
        )
        return dataclasses.replace(self, class_names=tuple(self.class_names[i] for i in class_ids), boxes=boxes)

    def select_split(self, *splits: Split) -> Dataset:
        """Only the images of one split, or of several."""
        wanted = {split.value for split in splits}
        rows = [i for i, s in enumerate(self.column("split")) if s in wanted]
        return self.take(rows)

    def shard(self, index: int, count: int) -> Dataset:
        """The images of one of ``count`` parts of about the same size, in row order.

        An image's part follows from the first bits of its SHA-256, and of its key while that is not known: whatever
        else is in the data set. Of hashed images each part is a range of hashes, as `visionops.data.shards` keeps them.
        """
        pairs = zip(self.column("sha256"), self.column("key"), strict=True)
        hashes = [known or hashlib.sha256(key.encode()).hexdigest() for known, key in pairs]
        return self.take([row for row, digest in enumerate(hashes) if int(digest[:8], 16) * count >> 32 == index])

    def fingerprint(self) -> str:
        """Identity of the content: image hashes, splits, boxes or labels, classes; whatever folder they lie in.

        Returns:
            SHA-256, lower-case hex. Two data sets with the same fingerprint train the same model.
        """
        digest = hashlib.sha256(json.dumps(self.class_names).encode())
        image, class_ids, xyxy = self.box_arrays()
        order = np.argsort(np.asarray(self.column("key"), dtype=object), kind="stable")
        rank = np.empty(self.num_images, dtype=np.int64)
        rank[order] = np.arange(self.num_images)
        for column in ("key", "sha256", "split"):
            values = self.column(column)
            digest.update("\n".join(values[i] for i in order).encode())
        if len(image):
            table = np.column_stack([rank[image], class_ids, xyxy])
            digest.update(np.ascontiguousarray(table[np.lexsort(table.T[::-1])]).tobytes())
        if self.attributes:
            digest.update(json.dumps([dataclasses.astuple(a) for a in self.attributes]).encode())
            digest.update(np.ascontiguousarray(self.label_array()[order]).tobytes())
            digest.update(self.images.column("weight").to_numpy()[order].tobytes())
        if self.white != FULL_WHITE:  # other pixels of the same files
            digest.update(f"white {self.white}".encode())
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Write the tables and ``dataset.json`` into ``folder``. No image is copied."""
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(self.images, folder / "images.parquet")
        pq.write_table(self.boxes, folder / "boxes.parquet")
        pq.write_table(self.labels, folder / "labels.parquet")
        meta: dict[str, Any] = {"name": self.name, "class_names": self.class_names, "notes": self.notes}
        meta["white_level"] = self.white_level
        meta["attributes"] = [dataclasses.asdict(attribute) for attribute in self.attributes]
        meta["findings"] = [dataclasses.asdict(finding) for finding in self.findings]
        (folder / "dataset.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Dataset:
        """Read what `save` wrote.

        Raises:
            DataError: A file is missing or is not what `save` writes.
        """
        try:
            meta = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
            return cls(
                name=meta["name"],
                class_names=tuple(meta["class_names"]),
                images=pq.read_table(folder / "images.parquet"),
                boxes=pq.read_table(folder / "boxes.parquet"),
                notes=tuple(meta["notes"]),
                findings=tuple(Finding.from_dict(raw) for raw in meta["findings"]),
                attributes=tuple(Attribute.from_dict(raw) for raw in meta["attributes"]),
                labels=pq.read_table(folder / "labels.parquet"),
                white_level=meta.get("white_level"),  # absent in what earlier versions saved
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder}: not a saved data set ({error}); run again with --no-cache") from error


def _labels_schema(attributes: Sequence[Attribute]) -> pa.Schema:
    return pa.schema([(attribute.name, pa.int32()) for attribute in attributes])
