"""How what a shard came to lives in an artifact store, on its way to the step that joins all."""

from __future__ import annotations

from typing import Any, ClassVar

from zenml.enums import ArtifactType

from materializers.folder import FolderMaterializer
from visionops.batch.answers import BatchAnswers
from visionops.data.validation.inspected import InspectedImages

__all__ = ["ShardMaterializer"]


class ShardMaterializer(FolderMaterializer):
    """A table of a row an image."""

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
        """What the dashboard shows beside the artifact."""
        return {"images": data.rows.num_rows}
