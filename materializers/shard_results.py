"""Store and load the results of one shard for the step that joins all shards."""

from __future__ import annotations

from typing import Any, ClassVar

from zenml.enums import ArtifactType

from materializers.folder import FolderMaterializer
from visionops.batch.answers import BatchAnswers
from visionops.data.validation.inspected import InspectedImages

__all__ = ["ShardMaterializer"]


class ShardMaterializer(FolderMaterializer):
    """Materializer for a table with one row per image."""

    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (BatchAnswers, InspectedImages)
    ASSOCIATED_ARTIFACT_TYPE: ClassVar[ArtifactType] = ArtifactType.DATA
    SKIP_REGISTRATION: ClassVar[bool] = False

    def save(self, data: BatchAnswers | InspectedImages) -> None:
        """Write the table."""
        with self.writing() as folder:
            data.save(folder)

    def load(self, data_type: type[Any]) -> BatchAnswers | InspectedImages:
        """Read the table."""
        kind: type[BatchAnswers | InspectedImages] = data_type
        return kind.load(self.reading())

    def extract_metadata(self, data: BatchAnswers | InspectedImages) -> dict[str, Any]:
        """Return the metadata for the dashboard."""
        return {"images": data.rows.num_rows}
