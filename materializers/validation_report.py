"""Store and load a `ValidationReport`."""

from __future__ import annotations

from typing import Any, ClassVar

from zenml.enums import ArtifactType, VisualizationType

from materializers.folder import FolderMaterializer
from visionops.data.validation.report import ValidationReport

__all__ = ["ValidationReportMaterializer"]


class ValidationReportMaterializer(FolderMaterializer):
    """Materializer for the report and its card, a page for the dashboard."""

    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (ValidationReport,)
    ASSOCIATED_ARTIFACT_TYPE: ClassVar[ArtifactType] = ArtifactType.DATA_ANALYSIS
    SKIP_REGISTRATION: ClassVar[bool] = False

    def save(self, data: ValidationReport) -> None:
        """Write the report and the card."""
        with self.writing() as folder:
            data.save(folder)

    def load(self, data_type: type[Any]) -> ValidationReport:  # noqa: ARG002 - ZenML's signature
        """Read the report."""
        return ValidationReport.load(self.reading())

    def save_visualizations(self, data: ValidationReport) -> dict[str, VisualizationType]:  # noqa: ARG002
        """Return the card."""
        return {f"{self.uri}/card.html": VisualizationType.HTML}

    def extract_metadata(self, data: ValidationReport) -> dict[str, Any]:
        """Return the metadata for the dashboard."""
        return {"errors": len(data.errors), "findings": {str(k): v for k, v in data.counts_by_code().items()}}
