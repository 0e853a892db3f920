"""Annotations of the images of a data set: each kind is a layer of its own, in columns.

`BoxLayer` (``boxes``) has one row per box. `LabelLayer` (``labels``) has one row per image and one column per
attribute. `ValueLayer` holds other targets of a task: one row per image, columns of any type.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = [
    "BOXES",
    "BOXES_SCHEMA",
    "LABELS",
    "Attribute",
    "BoxLayer",
    "Boxes",
    "LabelLayer",
    "Layer",
    "ValueLayer",
    "box_layer_from",
    "label_layer_from",
]

BOXES = "boxes"
LABELS = "labels"
"""Names of the layers that our readers create."""

BOXES_SCHEMA = pa.schema(
    [
        ("image", pa.int64()),  # row of `images`
        ("class_id", pa.int32()),  # index into `class_names`
        ("x1", pa.float64()),  # xyxy, pixels of the image after EXIF rotation
        ("y1", pa.float64()),
        ("x2", pa.float64()),
        ("y2", pa.float64()),
        ("source_id", pa.string()),  # id of this annotation in the source, for messages
    ]
)


@runtime_checkable  # pydantic requires it for steps with a data set
class Layer(Protocol):
    """One kind of annotation, for all images of a data set."""

    @property
    def table(self) -> pa.Table:
        """The annotations."""

    def take(self, rows: npt.NDArray[np.int64], num_images: int) -> Self:
        """Return the annotations of the images at ``rows``, in that order.

        Args:
            num_images: Number of images in the data set of this layer.
        """

    def append(self, other: Self, num_images: int) -> Self:
        """Return these annotations followed by those of other images.

        Args:
            other: A layer with the same classes.
            num_images: Number of images in the data set of this layer.
        """

    def digest(self, order: npt.NDArray[np.int64]) -> bytes:
        """Return the identity of the content, independent of the order of rows.

        Args:
            order: Rows of the images, sorted by key.
        """


@dataclasses.dataclass(frozen=True, slots=True)
class Boxes:
    """The boxes of one image."""

    xyxy: npt.NDArray[np.float64]
    """float64 (N, 4), pixels of the image after EXIF rotation."""
    class_ids: npt.NDArray[np.int32]
    """int32 (N,)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Attribute:
    """A question that every image answers with one of its classes; plain classification has one."""

    name: str
    class_names: tuple[str, ...]
    """Class names in the order of class ids."""
    positive: str | None = None
    """Positive one of two classes ("defective")."""

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Attribute:
        """Return the attribute that `dataclasses.asdict` made ``raw`` of."""
        return cls(raw["name"], tuple(raw["class_names"]), raw["positive"])


@dataclasses.dataclass(frozen=True)
class BoxLayer:
    """Boxes with classes, as in `BOXES_SCHEMA`."""

    class_names: tuple[str, ...] = ()
    table: pa.Table = dataclasses.field(default_factory=BOXES_SCHEMA.empty_table)

    def __post_init__(self) -> None:
        if self.table.schema != BOXES_SCHEMA:
            object.__setattr__(self, "table", self.table.select(BOXES_SCHEMA.names).cast(BOXES_SCHEMA))

    def arrays(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float64]]:
        """Return all boxes at once: image row (M,), class id (M,), xyxy (M, 4)."""
        xyxy = np.stack([self.table.column(c).to_numpy() for c in ("x1", "y1", "x2", "y2")], axis=1)
        return self.table.column("image").to_numpy(), self.table.column("class_id").to_numpy(), xyxy.reshape(-1, 4)

    def take(self, rows: npt.NDArray[np.int64], num_images: int) -> BoxLayer:
        """See `Layer`. The boxes of an image keep their order."""
        new_row = np.full(num_images, -1, dtype=np.int64)
        new_row[rows] = np.arange(len(rows))
        image = self.table.column("image").to_numpy()
        mapped = new_row[image] if len(image) else image
        keep = np.flatnonzero(mapped >= 0)
        keep = keep[np.argsort(mapped[keep], kind="stable")]
        table = self.table.take(pa.array(keep)).set_column(0, BOXES_SCHEMA.field("image"), pa.array(mapped[keep]))
        return dataclasses.replace(self, table=table)

    def append(self, other: BoxLayer, num_images: int) -> BoxLayer:
        """See `Layer`."""
        rows = other.table.column("image").to_numpy() + num_images
        index = BOXES_SCHEMA.get_field_index("image")
        moved = other.table.set_column(index, "image", pa.array(rows.astype(np.int64)))
        return dataclasses.replace(self, table=pa.concat_tables([self.table, moved]))

    def digest(self, order: npt.NDArray[np.int64]) -> bytes:
        """See `Layer`. Class names are not part of the digest."""
        image, class_ids, xyxy = self.arrays()
        if not len(image):
            return b""
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        table = np.column_stack([rank[image], class_ids, xyxy])
        return np.ascontiguousarray(table[np.lexsort(table.T[::-1])]).tobytes()


@dataclasses.dataclass(frozen=True)
class LabelLayer:
    """Classes of whole images: an int32 column for each attribute, null if unknown."""

    attributes: tuple[Attribute, ...]
    table: pa.Table

    def __post_init__(self) -> None:
        wanted = pa.schema([(attribute.name, pa.int32()) for attribute in self.attributes])
        if self.table.schema != wanted:
            object.__setattr__(self, "table", self.table.select(wanted.names).cast(wanted))

    def array(self) -> npt.NDArray[np.int32]:
        """Return class ids, int32 (images, attributes); -1 if unknown."""
        columns = [self.table.column(a.name).fill_null(-1).to_numpy() for a in self.attributes]
        return np.stack(columns, axis=1).astype(np.int32)

    def take(self, rows: npt.NDArray[np.int64], num_images: int) -> LabelLayer:  # noqa: ARG002
        """See `Layer`."""
        return dataclasses.replace(self, table=self.table.take(pa.array(rows)))

    def append(self, other: LabelLayer, num_images: int) -> LabelLayer:  # noqa: ARG002
        """See `Layer`."""
        return dataclasses.replace(self, table=pa.concat_tables([self.table, other.table]))

    def digest(self, order: npt.NDArray[np.int64]) -> bytes:
        """See `Layer`."""
        attributes = json.dumps([dataclasses.astuple(attribute) for attribute in self.attributes]).encode()
        return attributes + np.ascontiguousarray(self.array()[order]).tobytes()


@dataclasses.dataclass(frozen=True)
class ValueLayer:
    """One row per image, in columns of any type: targets of a custom task, such as a measured number."""

    table: pa.Table

    def take(self, rows: npt.NDArray[np.int64], num_images: int) -> ValueLayer:  # noqa: ARG002
        """See `Layer`."""
        return ValueLayer(self.table.take(pa.array(rows)))

    def append(self, other: ValueLayer, num_images: int) -> ValueLayer:  # noqa: ARG002
        """See `Layer`."""
        return ValueLayer(pa.concat_tables([self.table, other.table]))

    def digest(self, order: npt.NDArray[np.int64]) -> bytes:
        """See `Layer`."""
        rows = self.table.take(pa.array(order)).combine_chunks()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as stream:
            stream.write_table(rows)
        return hashlib.sha256(sink.getvalue()).digest()


def box_layer_from(class_names: Sequence[str], columns: dict[str, Any]) -> BoxLayer:
    """Return boxes from lists or arrays, named as in `BOXES_SCHEMA`; ``source_id``, or all columns, may be absent."""
    m = len(columns.get("image", ()))
    full = {**{f.name: [] for f in BOXES_SCHEMA}, "source_id": [""] * m, **columns}
    arrays = {f.name: pa.array(full[f.name], type=f.type) for f in BOXES_SCHEMA}
    return BoxLayer(tuple(class_names), pa.table(arrays, schema=BOXES_SCHEMA))


def label_layer_from(attributes: Sequence[Attribute], columns: dict[str, Any]) -> LabelLayer:
    """Return labels from class ids for each attribute, None if unknown."""
    arrays = {a.name: pa.array(columns[a.name], type=pa.int32()) for a in attributes}
    return LabelLayer(tuple(attributes), pa.table(arrays))
