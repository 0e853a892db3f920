"""Represent labelled images in memory.

A `Dataset` holds Arrow tables, not lists of Python objects. The table ``images`` has one row per image. Each kind of
annotation has its own table, called a *layer*: ``boxes``, ``labels``, or a layer of a custom task
(`visionops.data.layers`). The tables contain no image files: ``path`` is where a file is now, and ``sha256`` identifies
its content. Steps therefore exchange data sets without copying image files.

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
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from visionops.data.findings import Finding
from visionops.data.layers import (
    BOXES,
    BOXES_SCHEMA,
    LABELS,
    Attribute,
    Boxes,
    BoxLayer,
    LabelLayer,
    Layer,
    ValueLayer,
    box_layer_from,
    label_layer_from,
)
from visionops.errors import DataError, one_line
from visionops.inference.preprocessing_spec import FULL_WHITE

__all__ = ["ADDED", "IMAGES_SCHEMA", "Dataset", "Split"]

_LAYER_NAME = re.compile(r"[a-z][a-z0-9_]*")
_OTHER = "layer-"
"""Prefix of the file names of layers other than ``boxes`` and ``labels``."""


class Split(enum.StrEnum):
    """Split of an image. ``NONE`` means not assigned yet, ``UNLABELLED`` means for batch inference only."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"
    UNLABELLED = "unlabelled"
    NONE = ""


IMAGES_SCHEMA = pa.schema(
    [
        ("key", pa.string()),  # unique; relative POSIX path below the data set, e.g. "Steel/train/000007.jpg"
        ("path", pa.string()),  # absolute path of the file on this machine; "" if not available
        ("sha256", pa.string()),  # of the file, lower-case hex; "" until hashed
        ("num_bytes", pa.int64()),  # size of the file; -1 if it is missing
        ("width", pa.int32()),  # pixels, after EXIF rotation; 0 if unknown
        ("height", pa.int32()),
        ("split", pa.string()),  # a `Split`
        ("plain", pa.bool_()),  # `ImageHeader.is_plain`: every decoder gives the same pixels; null until checked
        ("group", pa.string()),  # images of one group stay in one split (duplicates, a part number); "" for no group
        ("weight", pa.float32()),  # weight of the image in training; 1 unless the labels come with a certainty
        ("phash", pa.uint64()),  # perceptual hash; null until computed
        ("look", pa.binary(256)),  # grey thumbnail, uint8 (16, 16); null until computed
    ]
)
"""Columns of `Dataset.images`."""

ADDED = "additions/"
"""Prefix of the keys of *additions*: images that were labelled after the first training."""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images and their annotations, in tables.

    The readers of `visionops.data.formats` create the layer ``boxes`` or ``labels``, and this class has properties for
    both. A task defines which layer it is trained on.
    """

    name: str
    images: pa.Table
    layers: Mapping[str, Layer] = dataclasses.field(default_factory=dict)
    """Annotations of these images, keyed by the name of the layer (lower-case letters, digits and _)."""
    notes: tuple[str, ...] = ()
    """Sentences that tell people how this data set was built, such as "test was cut from val"."""
    findings: tuple[Finding, ...] = ()
    """Problems that the reader found, such as an annotation of an unknown image or a file without annotation."""
    white_level: int | None = None
    """Pixel value of 16-bit images that becomes 255. Set by the configuration or by validation; None until known."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "notes", tuple(map(one_line, self.notes)))
        for name in self.layers:
            if not _LAYER_NAME.fullmatch(name):  # the name becomes a file name
                raise ValueError(f"invalid layer name {name!r}; use lower-case letters, digits and _")
        if self.images.schema != IMAGES_SCHEMA:
            object.__setattr__(self, "images", self.images.select(IMAGES_SCHEMA.names).cast(IMAGES_SCHEMA))

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
        """Build a data set from columns (lists or arrays). Missing image columns get their "unknown" value.

        Args:
            images: Must have ``key``; see `IMAGES_SCHEMA` for the others.
            boxes: All columns of `BOXES_SCHEMA`; ``source_id`` may be absent. ``{}`` for no boxes.
            labels: Class id of each image, or None if unknown, keyed by attribute.
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
        layers: dict[str, Layer] = {}
        if class_names or boxes or not attributes:
            layers[BOXES] = box_layer_from(class_names, boxes)
        if attributes:
            layers[LABELS] = label_layer_from(attributes, labels or {})
        return cls(
            name=name,
            images=pa.table({f.name: pa.array(full[f.name], type=f.type) for f in IMAGES_SCHEMA}, schema=IMAGES_SCHEMA),
            layers=layers,
            notes=tuple(notes),
            findings=tuple(findings),
            white_level=white_level,
        )

    def with_layer(self, name: str, layer: Layer) -> Dataset:
        """Return a copy with one layer added or replaced."""
        return dataclasses.replace(self, layers={**self.layers, name: layer})

    def with_boxes(self, table: pa.Table, class_names: Sequence[str] | None = None) -> Dataset:
        """Return a copy with the boxes of ``table`` and, if given, other classes."""
        names = self.class_names if class_names is None else tuple(class_names)
        return self.with_layer(BOXES, BoxLayer(names, table))

    def with_labels(self, attributes: Sequence[Attribute], table: pa.Table) -> Dataset:
        """Return a copy with the labels of ``table``, or without labels if ``attributes`` is empty."""
        if not attributes:
            others = {name: layer for name, layer in self.layers.items() if name != LABELS}
            return dataclasses.replace(self, layers=others)
        return self.with_layer(LABELS, LabelLayer(tuple(attributes), table))

    @property
    def box_layer(self) -> BoxLayer:
        """The layer ``boxes``; an empty layer if there are no boxes."""
        layer = self.layers.get(BOXES)
        return layer if isinstance(layer, BoxLayer) else BoxLayer()

    @property
    def label_layer(self) -> LabelLayer | None:
        """The layer ``labels``; None if there are no labels."""
        layer = self.layers.get(LABELS)
        return layer if isinstance(layer, LabelLayer) else None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names of the boxes, in the order of class ids."""
        return self.box_layer.class_names

    @property
    def boxes(self) -> pa.Table:
        """One row per box, as in `BOXES_SCHEMA`."""
        return self.box_layer.table

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """The attributes of the labels; empty if there are no labels."""
        return self.label_layer.attributes if self.label_layer else ()

    @property
    def labels(self) -> pa.Table:
        """One row per image and one column per attribute; see `LabelLayer`."""
        return self.label_layer.table if self.label_layer else pa.table({})

    @property
    def white(self) -> int:
        """White level for decoding 16-bit images: ``white_level``, or 65535 while that is unknown."""
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
        """All class names, whatever the layer.

        These are the classes of the boxes, the classes of a single attribute, or ``attribute=class`` for several.
        """
        if len(self.attributes) == 1:
            return self.attributes[0].class_names
        return self.class_names or tuple(f"{a.name}={c}" for a in self.attributes for c in a.class_names)

    def describe(self) -> str:
        """Return a summary for people, such as "1800 images, 4189 boxes, 6 classes"."""
        if not self.attributes and (BOXES in self.layers or not self.layers):
            return f"{self.num_images} images, {self.num_boxes} boxes, {len(self.class_names)} classes"
        if not self.attributes:
            return ", ".join([f"{self.num_images} images", *sorted(self.layers)])
        if len(self.attributes) == 1:
            return f"{self.num_images} images, {len(self.attributes[0].class_names)} classes"
        return f"{self.num_images} images, {len(self.attributes)} attributes, {len(self.all_class_names)} classes"

    def label_array(self) -> npt.NDArray[np.int32]:
        """Return class ids, int32 (images, attributes); -1 if unknown."""
        layer = self.label_layer
        return layer.array() if layer else np.empty((self.num_images, 0), np.int32)

    def presence(self) -> npt.NDArray[np.bool_]:
        """Return which image shows which class, bool (images, classes), classes in the order of `all_class_names`."""
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
        """Return one column of ``images`` as a Python list."""
        return list(self.images.column(name).to_pylist())

    def paths(self) -> list[Path]:
        """Return the path of each image file, in row order."""
        return [Path(p) for p in self.column("path")]

    def box_arrays(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float64]]:
        """Return all boxes at once: image row (M,), class id (M,), xyxy (M, 4)."""
        return self.box_layer.arrays()

    def boxes_of(self, row: int) -> Boxes:
        """Return the boxes of the image at ``row``. For all images use `boxes_by_image`."""
        image, class_ids, xyxy = self.box_arrays()
        mask = image == row
        return Boxes(xyxy[mask], class_ids[mask])

    def boxes_by_image(self) -> list[Boxes]:
        """Return the boxes of every image, in row order, in one pass."""
        image, class_ids, xyxy = self.box_arrays()
        order = np.argsort(image, kind="stable")
        cuts = np.searchsorted(image[order], np.arange(1, self.num_images))
        pairs = zip(np.split(xyxy[order], cuts), np.split(class_ids[order], cuts), strict=True)
        return [Boxes(b, c) for b, c in pairs][: self.num_images]

    def split_counts(self) -> dict[str, int]:
        """Return the number of images per split, in the order of `Split`, without empty splits."""
        column = self.column("split")
        return {s.value: n for s in Split if (n := column.count(s.value))}

    def replace_column(self, name: str, values: Sequence[Any] | npt.NDArray[Any]) -> Dataset:
        """Return a copy with one column of ``images`` replaced."""
        field = IMAGES_SCHEMA.field(name)
        index = IMAGES_SCHEMA.get_field_index(name)
        return dataclasses.replace(self, images=self.images.set_column(index, field, pa.array(values, type=field.type)))

    def take_evenly(self, count: int) -> Dataset:
        """Return up to ``count`` images at even distances in row order."""
        rows = np.unique(np.linspace(0, self.num_images - 1, min(count, self.num_images)).round().astype(np.int64))
        return self.take(rows)

    def take(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> Dataset:
        """Return the images at ``rows``, in that order, with their annotations."""
        wanted = np.asarray(rows, dtype=np.int64)
        layers = {name: layer.take(wanted, self.num_images) for name, layer in self.layers.items()}
        return dataclasses.replace(self, images=self.images.take(pa.array(wanted)), layers=layers)

    def append(self, other: Dataset) -> Dataset:
        """Return these images followed by those of a data set with the same layers and classes.

        Keeps the notes of this data set, and the findings of both.
        """
        layers = {name: layer.append(other.layers[name], self.num_images) for name, layer in self.layers.items()}
        images = pa.concat_tables([self.images, other.images])
        return dataclasses.replace(self, images=images, layers=layers, findings=(*self.findings, *other.findings))

    def select_classes(self, class_ids: Sequence[int]) -> Dataset:
        """Return a copy with all images and only the boxes of these classes, renumbered in the given order."""
        new_ids = np.full(len(self.class_names), -1, dtype=np.int32)
        new_ids[list(class_ids)] = np.arange(len(class_ids))
        mapped = new_ids[self.boxes.column("class_id").to_numpy()] if self.num_boxes else new_ids[:0]
        keep = np.flatnonzero(mapped >= 0)
        boxes = self.boxes.take(pa.array(keep)).set_column(
            BOXES_SCHEMA.get_field_index("class_id"), BOXES_SCHEMA.field("class_id"), pa.array(mapped[keep])
        )
        return self.with_boxes(boxes, [self.class_names[i] for i in class_ids])

    def select_split(self, *splits: Split) -> Dataset:
        """Return only the images of the given splits."""
        wanted = {split.value for split in splits}
        rows = [i for i, s in enumerate(self.column("split")) if s in wanted]
        return self.take(rows)

    def shard(self, index: int, count: int) -> Dataset:
        """Return one of ``count`` parts of the data set, in row order. The parts have similar sizes.

        The first bits of an image's SHA-256 decide its part, or those of its key's SHA-256 while the image is not
        hashed. Other images have no influence. Each part is a range of hashes, as `visionops.data.shards` stores it.
        """
        pairs = zip(self.column("sha256"), self.column("key"), strict=True)
        hashes = [known or hashlib.sha256(key.encode()).hexdigest() for known, key in pairs]
        return self.take([row for row, digest in enumerate(hashes) if int(digest[:8], 16) * count >> 32 == index])

    def fingerprint(self) -> str:
        """Return a hash of the content: image hashes, splits, annotations and classes, but not paths.

        Returns:
            SHA-256, lower-case hex. A training gets the same input from two data sets with the same fingerprint.
        """
        digest = hashlib.sha256(json.dumps(self.class_names).encode())
        order = np.argsort(np.asarray(self.column("key"), dtype=object), kind="stable")
        for column in ("key", "sha256", "split"):
            values = self.column(column)
            digest.update("\n".join(values[i] for i in order).encode())
        digest.update(self.box_layer.digest(order))
        if self.label_layer:
            digest.update(self.label_layer.digest(order))
        if self.label_layer or self._others():
            digest.update(self.images.column("weight").to_numpy()[order].tobytes())
        for name, layer in self._others():
            digest.update(name.encode() + layer.digest(order))
        if self.white != FULL_WHITE:  # the same files decode to other pixels
            digest.update(f"white {self.white}".encode())
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Write the tables and ``dataset.json`` into ``folder``, without the image files."""
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(self.images, folder / "images.parquet")
        pq.write_table(self.boxes, folder / "boxes.parquet")
        pq.write_table(self.labels, folder / "labels.parquet")
        meta: dict[str, Any] = {"name": self.name, "class_names": self.class_names, "notes": self.notes}
        meta["white_level"] = self.white_level
        for name, layer in self._others():
            pq.write_table(layer.table, folder / f"{_OTHER}{name}.parquet")
        meta["attributes"] = [dataclasses.asdict(attribute) for attribute in self.attributes]
        meta["findings"] = [dataclasses.asdict(finding) for finding in self.findings]
        (folder / "dataset.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Dataset:
        """Read a data set that `save` wrote.

        Raises:
            DataError: A file is missing or was not written by `save`.
        """
        try:
            meta = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
            class_names = tuple(meta["class_names"])
            attributes = tuple(Attribute.from_dict(raw) for raw in meta["attributes"])
            layers: dict[str, Layer] = {}
            boxes = pq.read_table(folder / "boxes.parquet")
            labels = pq.read_table(folder / "labels.parquet")
            others = sorted(folder.glob(f"{_OTHER}*.parquet"))
            if class_names or boxes.num_rows or not (attributes or others):
                layers[BOXES] = BoxLayer(class_names, boxes)
            if attributes:
                layers[LABELS] = LabelLayer(attributes, labels)
            layers |= {path.stem.removeprefix(_OTHER): ValueLayer(pq.read_table(path)) for path in others}
            return cls(
                name=meta["name"],
                images=pq.read_table(folder / "images.parquet"),
                layers=layers,
                notes=tuple(meta["notes"]),
                findings=tuple(Finding.from_dict(raw) for raw in meta["findings"]),
                white_level=meta.get("white_level"),  # absent in data sets that earlier versions saved
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder}: not a saved data set ({error}); run again with --no-cache") from error

    def _others(self) -> list[tuple[str, Layer]]:
        """Return the layers other than ``boxes`` and ``labels``, sorted by name."""
        return sorted((name, layer) for name, layer in self.layers.items() if name not in {BOXES, LABELS})
