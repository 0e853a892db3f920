"""Store and load a `SplitHistory`."""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

from zenml.enums import ArtifactType

from materializers.folder import FolderMaterializer
from visionops.data.history import SplitHistory

__all__ = ["SplitHistoryMaterializer"]


class SplitHistoryMaterializer(FolderMaterializer):
    """Materializer that writes one Parquet file."""

    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (SplitHistory,)
    ASSOCIATED_ARTIFACT_TYPE: ClassVar[ArtifactType] = ArtifactType.DATA
    SKIP_REGISTRATION: ClassVar[bool] = False

    def save(self, data: SplitHistory) -> None:
        """Write the rows."""
        with self.writing() as folder:
            data.save(folder)

    def load(self, data_type: type[Any]) -> SplitHistory:  # noqa: ARG002 - ZenML's signature
        """Read the rows."""
        return SplitHistory.load(self.reading())

    def extract_metadata(self, data: SplitHistory) -> dict[str, Any]:
        """Return the metadata for the dashboard."""
        return {"images": data.num_images, "splits": {split or "left out": n for split, n in data.counts().items()}}

    def compute_content_hash(self, data: SplitHistory) -> str:
        """Return a hash of the rows, so that an unchanged history does not run steps again."""
        digest = hashlib.sha256()
        for name in data.rows.column_names:
            digest.update(repr(data.rows.column(name).to_pylist()).encode())
        return digest.hexdigest()
