"""Store and load a `Dataset`: its tables, and the images only if other machines need them."""

from __future__ import annotations

import hashlib
import html
from pathlib import Path
from typing import Any, ClassVar

from zenml.enums import ArtifactType, VisualizationType
from zenml.steps.step_context import StepContext

from materializers.folder import FolderMaterializer
from visionops.data.dataset import Dataset
from visionops.data.shards import Shards, StoredDataset, pack_shards, read_index, stored_dataset
from visionops.home import visionops_home

__all__ = ["DatasetMaterializer", "ShardedMaterializer"]

_INDEX = "shards"
"""File with the name of the index of the images, in remote stores."""


class ShardedMaterializer(FolderMaterializer):
    """Base for materializers that use the shards of a remote store, below `<store>/visionops/shards`."""

    SKIP_REGISTRATION: ClassVar[bool] = True

    def _pack(self, data: Dataset, folder: Path) -> None:
        """Upload the bytes of ``data`` that the store lacks, and write the name of their index into ``folder``."""
        store = self.artifact_store
        store.makedirs(self._shards_uri)
        stored = self._read_by_step()
        index = pack_shards(data, self._shards_uri, open_=store.open, exists=store.exists, stored=stored)
        (folder / _INDEX).write_text(index, encoding="utf-8")

    def _stored(self, tables: Dataset, folder: Path) -> StoredDataset:
        """Return ``tables`` with a way to fetch their bytes, by the index that ``folder`` names."""
        cache = visionops_home() / "cache" / "images"
        return stored_dataset(tables, self._shards_uri, self._read_shards(folder), self.artifact_store.open, cache)

    def _read_by_step(self) -> Shards:
        """Return the shards of the running step's input data sets, which its outputs can reuse."""
        step = StepContext.get()
        given = [artifact for inputs in step.inputs.values() for artifact in inputs] if step else []
        found: Shards = {}
        for artifact in given:
            if artifact.materializer.attribute == DatasetMaterializer.__name__:
                found |= self._read_shards(DatasetMaterializer(artifact.uri, self.artifact_store).reading())
        return found

    def _read_shards(self, folder: Path) -> Shards:
        index = (folder / _INDEX).read_text(encoding="utf-8")
        return read_index(self._shards_uri, index, self.artifact_store.open)

    @property
    def _shards_uri(self) -> str:
        return f"{self.artifact_store.path.rstrip('/')}/visionops/shards"


class DatasetMaterializer(ShardedMaterializer):
    """Materializer for tables that refer to images.

    With a local store the images stay in place, so the cost does not grow with their size. With a remote store they
    are uploaded once, as uncompressed shards addressed by content below `<store>/visionops/shards`.
    """

    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (Dataset, StoredDataset)
    ASSOCIATED_ARTIFACT_TYPE: ClassVar[ArtifactType] = ArtifactType.DATA
    SKIP_REGISTRATION: ClassVar[bool] = False

    def save(self, data: Dataset) -> None:
        """Write the tables; upload the shards that a remote store lacks."""
        with self.writing() as folder:
            data.save(folder)
            if not self._is_local:
                self._pack(data, folder)

    def load(self, data_type: type[Any]) -> Dataset | StoredDataset:
        """Read the tables; from a remote store also fetch the images that this machine lacks.

        A step with an input of type `StoredDataset` fetches the images that it needs itself.
        """
        folder = self.reading()
        tables = Dataset.load(folder)
        stored = StoredDataset(tables, lambda images: images) if self._is_local else self._stored(tables, folder)
        return stored if data_type is StoredDataset else stored.fetch(tables)

    def save_visualizations(self, data: Dataset) -> dict[str, VisualizationType]:
        """Write a small page with images and boxes per split and class."""
        path = f"{self.uri}/summary.viz.html"
        with self.artifact_store.open(path, "w") as file:
            file.write(_summary(data))
        return {path: VisualizationType.HTML}

    def extract_metadata(self, data: Dataset) -> dict[str, Any]:
        """Return the metadata for the dashboard."""
        return {
            "images": data.num_images,
            "boxes": data.num_boxes,
            "classes": len(data.all_class_names),
            "splits": data.split_counts(),
            "fingerprint": data.fingerprint(),
        }

    def compute_content_hash(self, data: Dataset) -> str:
        """Return a hash of the content and its location, so that a moved folder is not answered from the cache."""
        where = hashlib.sha256("\n".join(data.column("path")).encode()).hexdigest()
        return f"{data.fingerprint()}-{where[:16]}"


def _summary(data: Dataset) -> str:
    rows = "".join(f"<tr><td>{html.escape(s)}</td><td>{n}</td></tr>" for s, n in data.split_counts().items())
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in data.notes)
    heads = [f"{a.name} ({', '.join(a.class_names)})" for a in data.attributes if len(data.attributes) > 1]
    classes = html.escape(", ".join(heads or data.all_class_names))
    return (
        f"<h3>{html.escape(data.name)}</h3><p>{html.escape(data.describe())}: {classes}</p>"
        f"<table border='1' cellpadding='4'><tr><th>split</th><th>images</th></tr>{rows}</table><ul>{notes}</ul>"
    )
