"""How `BatchAnswers` live in an artifact store."""

from __future__ import annotations

from typing import Any, ClassVar

from zenml.enums import ArtifactType

from materializers.folder import FolderMaterializer
from visionops.batch import BatchAnswers

__all__ = ["BatchAnswersMaterializer"]


class BatchAnswersMaterializer(FolderMaterializer):
    """The answers of a shard, on their way to the step that joins them."""

    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (BatchAnswers,)
    ASSOCIATED_ARTIFACT_TYPE: ClassVar[ArtifactType] = ArtifactType.DATA
    SKIP_REGISTRATION: ClassVar[bool] = False

    def save(self, data: BatchAnswers) -> None:
        """Write the table."""
        with self.writing() as folder:
            data.save(folder)

    def load(self, data_type: type[Any]) -> BatchAnswers:  # noqa: ARG002 - ZenML's signature
        """Read the table."""
        return BatchAnswers.load(self.reading())

    def extract_metadata(self, data: BatchAnswers) -> dict[str, Any]:
        """What the dashboard shows beside the artifact."""
        return {"images": data.rows.num_rows, "asked": data.asked, "seconds": data.seconds}
