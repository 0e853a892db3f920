"""Store and load a `ModelBundle`."""

from __future__ import annotations

from typing import Any, ClassVar

from zenml.enums import ArtifactType, VisualizationType

from materializers.folder import FolderMaterializer, link_tree
from visionops.inference.bundle import ModelBundle

__all__ = ["ModelBundleMaterializer"]


class ModelBundleMaterializer(FolderMaterializer):
    """Materializer for the bundle's unchanged files, which are checked against their digests on every load."""

    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (ModelBundle,)
    ASSOCIATED_ARTIFACT_TYPE: ClassVar[ArtifactType] = ArtifactType.MODEL
    SKIP_REGISTRATION: ClassVar[bool] = False

    def save(self, data: ModelBundle) -> None:
        """Link or upload the files."""
        with self.writing() as folder:
            link_tree(data.folder, folder)

    def load(self, data_type: type[Any]) -> ModelBundle:  # noqa: ARG002 - ZenML's signature
        """Open and check the bundle."""
        return ModelBundle.load(self.reading())

    def save_visualizations(self, data: ModelBundle) -> dict[str, VisualizationType]:
        """Return the card."""
        path = f"{self.uri}/card.viz.json"
        with self.artifact_store.open(path, "w") as file:
            file.write(data.card.model_dump_json(indent=1, exclude={"files"}))
        return {path: VisualizationType.JSON}

    def extract_metadata(self, data: ModelBundle) -> dict[str, Any]:
        """Return the metadata for the dashboard."""
        card = data.card
        return {
            "architecture": card.architecture,
            "classes": ", ".join(card.class_names)[:500],
            "precision": card.precision.value,
            "digest": data.digest,
        } | {f"val_{key}": value for key, value in card.metrics.items()}

    def compute_content_hash(self, data: ModelBundle) -> str:
        """Return the digest of the card, which includes the digest of every file."""
        return data.digest
