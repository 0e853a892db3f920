"""Validate with our checks of images and labels, and look for drift with Evidently or with both methods."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar, cast

from zenml.data_validators.base_data_validator import BaseDataValidatorFlavor

from stacks.validators.flavors import EvidentlyValidatorConfig, EvidentlyValidatorFlavor
from stacks.validators.images import ImagesValidator
from visionops.errors import StackError
from visionops.home import visionops_home

if TYPE_CHECKING:
    import pyarrow as pa

    from visionops.monitoring.drift.validator import DriftFindings
    from visionops.monitoring.settings import DriftSettings

__all__ = ["EvidentlyValidator"]


class EvidentlyValidator(ImagesValidator):
    """Validator that adds Evidently's report to the page, its snapshot to a workspace and, optionally, its tests."""

    NAME: ClassVar[str] = "VisionOps with Evidently"
    FLAVOR: ClassVar[type[BaseDataValidatorFlavor]] = EvidentlyValidatorFlavor
    OF_DRIFT: ClassVar[frozenset[str]] = frozenset({"workspace"})

    @property
    def config(self) -> EvidentlyValidatorConfig:
        """Return the component's settings."""
        return cast("EvidentlyValidatorConfig", self._config)

    @property
    def workspace(self) -> str:
        """Return the folder or the URL that snapshots go to."""
        return self.config.workspace or str(visionops_home() / "evidently")

    def detect_drift(
        self,
        reference: pa.Table,
        current: pa.Table,
        settings: DriftSettings,
        use_case: str,
        history: pa.Table | None = None,
    ) -> DriftFindings:
        """Compare by either method; see `DriftValidator`. A workspace that cannot be written only loses the snapshot.

        Raises:
            StackError: Evidently is not installed.
        """
        if find_spec("evidently") is None:
            raise StackError(
                f"data validator {self.name!r}: evidently is not installed; pip install 'visionops[drift]'"
            )
        # Imported here, because Evidently takes seconds to import and no other step needs it.
        from visionops.monitoring.evidently.comparison import compare_with_evidently

        return compare_with_evidently(reference, current, settings, use_case, self.workspace, history)
