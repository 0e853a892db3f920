"""How a `ConvertedDataset` lives in an artifact store: its tables, and its files without the images they refer to."""

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
    """Tables, and the files that a trainer reads.

        tables/            the data set; ``path`` of what lies in the layout is relative to it
        conversion.json    by which settings, and what the task wrote down
        files/             of a local store: the layout itself, moved here; its images are links
                           of a remote one: a data set that names each file and its bytes
        shards             of a remote store: names the index of the bytes

    With a remote store all bytes travel in the shards of data sets. Those of images are there since the data set was
    prepared, so that none travels a second time; the layout is linked together anew from this machine's cache.
    """

    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (ConvertedDataset,)
    ASSOCIATED_ARTIFACT_TYPE: ClassVar[ArtifactType] = ArtifactType.DATA
    SKIP_REGISTRATION: ClassVar[bool] = False

    def save(self, data: ConvertedDataset) -> None:
        """Write the tables; move the layout here, or upload what a remote store lacks of it.

        Raises:
            DataError: The layout is gone.
        """
        if not data.folder.is_dir():
            raise DataError(f"{data.folder}: is gone, as when two runs convert the same data at once; run again")
        with self.writing() as folder:
            data.moved(Path()).dataset.save(folder / _TABLES)
            told = {"plan": data.plan.model_dump(mode="json"), "facts": dict(data.facts)}
            (folder / _PLAN).write_text(json.dumps(told, indent=1), encoding="utf-8")
            if self._is_local:
                shutil.move(data.folder, folder / _FILES)
                return
            files = list_layout(data.folder)
            files.save(folder / _FILES)
            self._pack(_bytes_of(files, data.dataset), folder)
        shutil.rmtree(data.folder)

    def load(self, data_type: type[Any]) -> ConvertedDataset:  # noqa: ARG002 - ZenML's signature
        """Read the tables; of a remote store fetch what training reads, and link the layout together."""
        folder = self.reading()
        tables = Dataset.load(folder / _TABLES)
        told = json.loads((folder / _PLAN).read_text(encoding="utf-8"))
        plan = ConversionPlan.model_validate(told["plan"])
        if self._is_local:
            return ConvertedDataset(tables, plan, Path(), told["facts"]).moved(folder / _FILES)
        files = self._stored(Dataset.load(folder / _FILES), folder)
        layout, fetched = visionops_home() / "cache" / "converted" / folder.name, files.fetch(files.tables)
        if not layout.is_dir():
            restore_layout(fetched, layout)
        paths = tables.column("path")
        rows = [row for row, path in enumerate(paths) if Path(path).is_absolute()]  # of the machine that converted
        for row, path in zip(rows, files.fetch(tables.take(rows)).column("path"), strict=True):
            paths[row] = path
        return ConvertedDataset(tables.replace_column("path", paths), plan, Path(), told["facts"]).moved(layout)

    def save_visualizations(self, data: ConvertedDataset) -> dict[str, VisualizationType]:
        """What it is converted for, as a small page."""
        path = f"{self.uri}/summary.viz.html"
        settings = json.dumps(data.plan.training.model_dump(mode="json", exclude_defaults=True), indent=1)
        with self.artifact_store.open(path, "w") as file:
            file.write(
                f"<h3>{html.escape(data.dataset.name)}</h3><p>{html.escape(data.dataset.describe())}, converted for "
                f"{html.escape(data.plan.task)}</p><pre>{html.escape(settings, quote=False)}</pre>"
            )
        return {path: VisualizationType.HTML}

    def extract_metadata(self, data: ConvertedDataset) -> dict[str, Any]:
        """Return what the dashboard shows beside the artifact."""
        return {
            "task": data.plan.task,
            "splits": data.dataset.split_counts(),
            "data_fingerprint": data.dataset.fingerprint(),
        }

    def compute_content_hash(self, data: ConvertedDataset) -> str:
        """Return the identity of the content: the same data under another address call for no new training."""
        return data.fingerprint()


def _bytes_of(files: Dataset, dataset: Dataset) -> Dataset:
    """Return the files, and the images that training opens beside them."""
    rows = [row for row, path in enumerate(dataset.column("path")) if Path(path).is_absolute()]
    parts = (files, dataset.take(rows))
    columns = {
        name: [v for part in parts for v in part.column(name)] for name in ("key", "path", "sha256", "num_bytes")
    }
    return Dataset.from_columns("layout", (), columns, {})
