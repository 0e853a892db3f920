"""How a `Dataset` lives in an artifact store: its tables, and the images only where another machine needs them."""

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
"""Of a remote store: the file that names the index of the images."""


class ShardedMaterializer(FolderMaterializer):
    """Base: gives subclasses the shards of a remote store, below `<store>/visionops/shards`."""

    SKIP_REGISTRATION: ClassVar[bool] = True

    def _pack(self, data: Dataset, folder: Path) -> None:
        """Send the bytes of ``data`` that the store does not have; name their index in ``folder``."""
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
        """Return the shards of the data sets that the running step was given: what comes of these needs no new ones."""
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
    """Tables that refer to the images.

    With a local store the images stay where they are, so the cost does not grow with their bytes. With a remote store
    they travel once, as uncompressed shards addressed by content below `<store>/visionops/shards`.
    """

    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (Dataset, StoredDataset)
    ASSOCIATED_ARTIFACT_TYPE: ClassVar[ArtifactType] = ArtifactType.DATA
    SKIP_REGISTRATION: ClassVar[bool] = False

    def save(self, data: Dataset) -> None:
        """Write the tables; upload the shards that a remote store does not have."""
        with self.writing() as folder:
            data.save(folder)
            if not self._is_local:
                self._pack(data, folder)

    def load(self, data_type: type[Any]) -> Dataset | StoredDataset:
        """Read the tables; of a remote store fetch the images that this machine does not have.

        A step that asks for a `StoredDataset` fetches them itself, as many as it needs.
        """
        folder = self.reading()
        tables = Dataset.load(folder)
        stored = StoredDataset(tables, lambda images: images) if self._is_local else self._stored(tables, folder)
        return stored if data_type is StoredDataset else stored.fetch(tables)

    def save_visualizations(self, data: Dataset) -> dict[str, VisualizationType]:
        """Images and boxes per split and class, as a small page."""
        path = f"{self.uri}/summary.viz.html"
        with self.artifact_store.open(path, "w") as file:
            file.write(_summary(data))
        return {path: VisualizationType.HTML}

    def extract_metadata(self, data: Dataset) -> dict[str, Any]:
        """What the dashboard shows beside the artifact."""
        return {
            "images": data.num_images,
            "boxes": data.num_boxes,
            "classes": len(data.all_class_names),
            "splits": data.split_counts(),
            "fingerprint": data.fingerprint(),
        }

    def compute_content_hash(self, data: Dataset) -> str:
        """The content, and where the bytes lie: a moved folder must not be answered from the cache."""
        where = hashlib.sha256("\n".join(data.column("path")).encode()).hexdigest()
        return f"{data.fingerprint()}-{where[:16]}"


def _summary(data: Dataset) -> str:
    rows = "".join(f"<tr><td>{html.escape(s)}</td><td>{n}</td></tr>" for s, n in data.split_counts().items())
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in data.notes)
    asked = [f"{a.name} ({', '.join(a.class_names)})" for a in data.attributes if len(data.attributes) > 1]
    classes = html.escape(", ".join(asked or data.all_class_names))
    return (
        f"<h3>{html.escape(data.name)}</h3><p>{html.escape(data.describe())}: {classes}</p>"
        f"<table border='1' cellpadding='4'><tr><th>split</th><th>images</th></tr>{rows}</table><ul>{notes}</ul>"
    )
