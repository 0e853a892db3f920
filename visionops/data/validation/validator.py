"""Interface of the stack component that validates images and labels. Data validators implement it; steps call it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from visionops.data.dataset import Dataset
from visionops.data.settings import ValidationPolicy
from visionops.data.validation.inspected import InspectedImages
from visionops.data.validation.report import ValidationReport

__all__ = ["ImageValidator", "validate_by"]


class ImageValidator(Protocol):
    """Decodes images where they are stored, in one or many parts, then judges all of them together."""

    @property
    def identity(self) -> str:
        """Text that identifies its checks beside images, labels and policy: part of the cache key of each validation.

        Empty for the checks of `visionops`, whose code is part of every cache key.
        """

    def inspect_images(
        self, images: Dataset, policy: ValidationPolicy, progress: Callable[[int], None] | None = None
    ) -> InspectedImages:
        """Decode the images of a data set, or of one of its shards.

        Args:
            progress: Called with the number of images decoded so far.

        Returns:
            One row per image, in row order.
        """

    def validate_images(
        self,
        dataset: Dataset,
        parts: Sequence[InspectedImages],
        policy: ValidationPolicy,
        fetch: Callable[[Dataset], Dataset] = lambda images: images,
    ) -> ValidationReport:
        """Judge the whole data set by its decoded images; the report does not depend on the number of parts.

        Args:
            parts: Inspected parts that together contain each image once.
            fetch: Returns the given images with paths on this machine.

        Raises:
            DataError: An image was not decoded.
        """


def validate_by(
    validator: ImageValidator,
    dataset: Dataset,
    policy: ValidationPolicy,
    progress: Callable[[int], None] | None = None,
) -> ValidationReport:
    """Validate a data set whose images are on this machine, in one part."""
    return validator.validate_images(dataset, [validator.inspect_images(dataset, policy, progress)], policy)
