"""A complete custom validator: ours, but it refuses dark images. docs/how-to/own-validator.md"""

from __future__ import annotations

from typing import cast

from zenml.data_validators.base_data_validator import BaseDataValidatorFlavor

from stacks.validators.evidently import EvidentlyValidator
from stacks.validators.flavors import EvidentlyValidatorConfig

__all__ = ["DarkConfig", "DarkFlavor", "DarkValidator"]


class DarkConfig(EvidentlyValidatorConfig):
    """Settings of the limit for dark images."""

    darkest: float = 20
    """Lowest accepted mean grey value, 0 to 255."""


class DarkValidator(EvidentlyValidator):
    """Validator that refuses dark images, otherwise like ours."""

    def inspect_images(self, images, policy, progress=None):
        seen = super().inspect_images(images, policy, progress)
        darkest = cast("DarkConfig", self.config).darkest
        values = zip(seen.rows["key"].to_pylist(), seen.rows["brightness"].to_pylist(), strict=True)
        return seen.refuse(
            {
                key: f"mean grey value {value:.0f} of 255 is below {darkest:g}; light the part"
                for key, value in values
                if value < darkest
            }
        )


class DarkFlavor(BaseDataValidatorFlavor):
    """Registers `DarkValidator` with ZenML."""

    @property
    def name(self):
        return "dark"

    @property
    def config_class(self):
        return DarkConfig

    @property
    def implementation_class(self):
        return DarkValidator
