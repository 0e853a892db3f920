"""Store and load a `TuningResult`."""

from __future__ import annotations

from typing import Any, ClassVar

from zenml.enums import ArtifactType, VisualizationType

from materializers.folder import FolderMaterializer, link_tree
from visionops.tuning.report import setting_text
from visionops.tuning.result import TuningResult

__all__ = ["TuningMaterializer"]


class TuningMaterializer(FolderMaterializer):
    """Materializer for the trials, the report and its pictures, as files."""

    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (TuningResult,)
    ASSOCIATED_ARTIFACT_TYPE: ClassVar[ArtifactType] = ArtifactType.DATA_ANALYSIS
    SKIP_REGISTRATION: ClassVar[bool] = False

    def save(self, data: TuningResult) -> None:
        """Link or upload the files."""
        with self.writing() as folder:
            link_tree(data.folder, folder)

    def load(self, data_type: type[Any]) -> TuningResult:  # noqa: ARG002 - ZenML's signature
        """Read the result."""
        return TuningResult.load(self.reading())

    def save_visualizations(self, data: TuningResult) -> dict[str, VisualizationType]:
        """Return the report and every picture."""
        pages = {f"{self.uri}/report.html": VisualizationType.HTML}
        pictures = sorted(data.folder.glob("*.png"))
        return pages | {f"{self.uri}/{p.name}": VisualizationType.IMAGE for p in pictures}

    def extract_metadata(self, data: TuningResult) -> dict[str, Any]:
        """Return the metadata for the dashboard."""
        settings: dict[str, Any] = {key: setting_text(value) for key, value in data.best_trial.settings.items()}
        return {
            "use_case": data.use_case,
            "metric": data.metric,
            "value": data.value,
            "trials": data.counts(),
            **settings,
        }
