"""Store and load a `ConvertedDataset`: its tables, and its files without the images that they refer to."""

from __future__ import annotations

import html
import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

from zenml.enums import ArtifactType, VisualizationType

from materializers.dataset import ShardedMaterializer
from visionops.data.dataset import Dataset
from visionops.data.layout import list_layout, restore_layout
from visionops.errors import DataError
from visionops.home import visionops_home
from visionops.tasks.conversion_plan import ConversionPlan
from visionops.tasks.converted import ConvertedDataset

__all__ = ["ConvertedMaterializer"]

_TABLES = "tables"
_FILES = "files"
_PLAN = "conversion.json"


class ConvertedMaterializer(ShardedMaterializer):
    """Materializer for the tables and the files that a trainer reads.

        tables/            the data set; ``path`` of files in the layout is relative to it
        conversion.json    settings of the conversion, and the task's notes
        files/             local store: the layout itself, moved here; its images are links
                           remote store: a data set that names each file and its bytes
        shards             remote store: name of the index of the bytes

    A remote store keeps all bytes in the shards of data sets. Images were uploaded when the data set was prepared and
    are not uploaded again; loading links the layout together from this machine's cache.
    """

    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (ConvertedDataset,)
    ASSOCIATED_ARTIFACT_TYPE: ClassVar[ArtifactType] = ArtifactType.DATA
    SKIP_REGISTRATION: ClassVar[bool] = False

    def save(self, data: ConvertedDataset) -> None:
        """Write the tables; move the layout here, or upload the files that a remote store lacks.

        Raises:
            DataError: The layout is missing.
        """
        if not data.folder.is_dir():
            raise DataError(f"{data.folder}: missing, as when two runs convert the same data at once; run again")
        with self.writing() as folder:
            data.moved(Path()).dataset.save(folder / _TABLES)
            stored = {"plan": data.plan.model_dump(mode="json"), "facts": dict(data.facts)}
            (folder / _PLAN).write_text(json.dumps(stored, indent=1), encoding="utf-8")
            if self._is_local:
                shutil.move(data.folder, folder / _FILES)
                return
            files = list_layout(data.folder)
            files.save(folder / _FILES)
            self._pack(_bytes_of(files, data.dataset), folder)
        shutil.rmtree(data.folder)

    def load(self, data_type: type[Any]) -> ConvertedDataset:  # noqa: ARG002 - ZenML's signature
        """Read the tables; from a remote store also fetch the files for training and link the layout together."""
        folder = self.reading()
        tables = Dataset.load(folder / _TABLES)
        stored = json.loads((folder / _PLAN).read_text(encoding="utf-8"))
        plan = ConversionPlan.model_validate(stored["plan"])
        if self._is_local:
            return ConvertedDataset(tables, plan, Path(), stored["facts"]).moved(folder / _FILES)
        files = self._stored(Dataset.load(folder / _FILES), folder)
        layout, fetched = visionops_home() / "cache" / "converted" / folder.name, files.fetch(files.tables)
        if not layout.is_dir():
            restore_layout(fetched, layout)
        paths = tables.column("path")
        # Absolute paths are those of the machine that converted the data.
        rows = [row for row, path in enumerate(paths) if Path(path).is_absolute()]
        for row, path in zip(rows, files.fetch(tables.take(rows)).column("path"), strict=True):
            paths[row] = path
        return ConvertedDataset(tables.replace_column("path", paths), plan, Path(), stored["facts"]).moved(layout)

    def save_visualizations(self, data: ConvertedDataset) -> dict[str, VisualizationType]:
        """Write a small page with the task and the settings of the conversion."""
        path = f"{self.uri}/summary.viz.html"
        settings = json.dumps(data.plan.training.model_dump(mode="json", exclude_defaults=True), indent=1)
        with self.artifact_store.open(path, "w") as file:
            file.write(
                f"<h3>{html.escape(data.dataset.name)}</h3><p>{html.escape(data.dataset.describe())}, converted for "
                f"{html.escape(data.plan.task)}</p><pre>{html.escape(settings, quote=False)}</pre>"
            )
        return {path: VisualizationType.HTML}

    def extract_metadata(self, data: ConvertedDataset) -> dict[str, Any]:
        """Return the metadata for the dashboard."""
        return {
            "task": data.plan.task,
            "splits": data.dataset.split_counts(),
            "data_fingerprint": data.dataset.fingerprint(),
        }

    def compute_content_hash(self, data: ConvertedDataset) -> str:
        """Return a hash of the content, so that the same data at another address does not train again."""
        return data.fingerprint()


def _bytes_of(files: Dataset, dataset: Dataset) -> Dataset:
    """Return the files and the images that training opens."""
    rows = [row for row, path in enumerate(dataset.column("path")) if Path(path).is_absolute()]
    parts = (files, dataset.take(rows))
    columns = {
        name: [v for part in parts for v in part.column(name)] for name in ("key", "path", "sha256", "num_bytes")
    }
    return Dataset.from_columns("layout", (), columns, {})
