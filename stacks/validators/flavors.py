"""Define ZenML data validator flavors ``visionops_images`` and ``visionops_evidently``.

Only ZenML is imported at the top: every `zenml` command loads this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zenml.data_validators.base_data_validator import BaseDataValidatorConfig, BaseDataValidatorFlavor

if TYPE_CHECKING:
    from stacks.validators.evidently import EvidentlyValidator
    from stacks.validators.images import ImagesValidator

__all__ = [
    "EvidentlyValidatorConfig",
    "EvidentlyValidatorFlavor",
    "ImagesValidatorConfig",
    "ImagesValidatorFlavor",
]


class ImagesValidatorConfig(BaseDataValidatorConfig):
    """Empty settings: limits and severities are in the use case, under ``validation``."""


class ImagesValidatorFlavor(BaseDataValidatorFlavor):
    """Registers `ImagesValidator` with ZenML."""

    @property
    def name(self) -> str:
        """Return the name of the flavor."""
        return "visionops_images"

    @property
    def config_class(self) -> type[ImagesValidatorConfig]:
        """Return the class of the component's settings."""
        return ImagesValidatorConfig

    @property
    def implementation_class(self) -> type[ImagesValidator]:
        """Return the class of the component."""
        from stacks.validators.images import ImagesValidator

        return ImagesValidator


class EvidentlyValidatorConfig(ImagesValidatorConfig):
    """Settings of Evidently's history."""

    workspace: str = ""
    """Workspace for `evidently ui`: a folder, or the URL of its server, whose key is in ``EVIDENTLY_SECRET``; "" for
    ``evidently`` below VISIONOPS_HOME."""


class EvidentlyValidatorFlavor(BaseDataValidatorFlavor):
    """Registers `EvidentlyValidator` with ZenML."""

    @property
    def name(self) -> str:
        """Return the name of the flavor."""
        return "visionops_evidently"

    @property
    def config_class(self) -> type[EvidentlyValidatorConfig]:
        """Return the class of the component's settings."""
        return EvidentlyValidatorConfig

    @property
    def implementation_class(self) -> type[EvidentlyValidator]:
        """Return the class of the component."""
        from stacks.validators.evidently import EvidentlyValidator

        return EvidentlyValidator
