"""Store and load an `Evaluation`."""

from __future__ import annotations

from typing import Any, ClassVar

from zenml.enums import ArtifactType, VisualizationType

from materializers.folder import FolderMaterializer, link_tree
from visionops.evaluation.report import load_evaluation
from visionops.evaluation.result import Evaluation

__all__ = ["EvaluationMaterializer"]


class EvaluationMaterializer(FolderMaterializer):
    """Materializer for metrics, report and pictures, as files."""

    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (Evaluation,)
    ASSOCIATED_ARTIFACT_TYPE: ClassVar[ArtifactType] = ArtifactType.DATA_ANALYSIS
    SKIP_REGISTRATION: ClassVar[bool] = False

    def save(self, data: Evaluation) -> None:
        """Link or upload the files."""
        with self.writing() as folder:
            link_tree(data.folder, folder)

    def load(self, data_type: type[Any]) -> Evaluation:  # noqa: ARG002 - ZenML's signature
        """Read the metrics."""
        return load_evaluation(self.reading())

    def save_visualizations(self, data: Evaluation) -> dict[str, VisualizationType]:
        """Return the report and every picture."""
        pages = {f"{self.uri}/report.html": VisualizationType.HTML}
        pictures = sorted(data.folder.glob("*.png"))
        return pages | {f"{self.uri}/{p.name}": VisualizationType.IMAGE for p in pictures}

    def extract_metadata(self, data: Evaluation) -> dict[str, Any]:
        """Return the metadata for the dashboard."""
        facts = {"images": data.num_images, "engine": data.engine, "precision": data.precision, **data.metrics}
        shown = {name: data.intervals[name] for name in data.headline if name in data.intervals}
        return facts | {f"{name}_interval": f"{low:.3f} to {high:.3f}" for name, (low, high) in shown.items()}
