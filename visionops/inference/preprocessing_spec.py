"""Specification of the preprocessing, as stored in a bundle. `preprocessing` executes it."""

from __future__ import annotations

import enum

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["FULL_WHITE", "ContentCrop", "Interpolation", "PreprocessingSpec", "Resize", "Tiling"]

FULL_WHITE = 65535
"""White level of a file that uses all of its 16 bits."""


class Resize(enum.StrEnum):
    """How an image is resized to the input size."""

    LETTERBOX = "letterbox"
    """Scale to fit with the aspect kept, centre, and pad the rest (detectors)."""
    STRETCH = "stretch"
    """Scale both sides to the input size without keeping the aspect."""
    CENTER_CROP = "center_crop"
    """Crop the longer side centrally, then scale; the aspect is kept, to a pixel."""


class Interpolation(enum.StrEnum):
    """How pixels are resampled."""

    LINEAR = "linear"
    """Two neighbours on each side, as in the trainer of detectors; aliases when shrinking by more than two."""
    AREA = "area"
    """Mean over the covered area when shrinking, linear when enlarging."""


class ContentCrop(BaseModel):
    """Cut an image to what is not background: the bounding box of pixels unlike the border, made square.

    The background is the median colour of the outermost pixels. An image without content stays whole.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    tolerance: int = Field(default=12, ge=0, le=254)
    """Largest difference of a channel from the background that still counts as background."""
    margin: float = Field(default=0.05, ge=0, le=1)
    """Margin added on each side, as a fraction of the longer side of the content."""


class Tiling(BaseModel):
    """Split a large image into overlapping square tiles, each resized to the input size separately.

    `visionops.inference.tiling` places the tiles and merges their boxes into one answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    size: int = Field(ge=32)
    """Side of a tile in pixels of the original image. An image no larger than a tile is not split."""
    overlap: int = Field(ge=1)
    """Least overlap of neighbours in pixels, at most half a tile. An object up to this size is complete in one tile."""
    max_tiles: int = Field(default=128, ge=1)
    """Maximum number of tiles; a larger image is refused, because each tile costs an inference."""

    @model_validator(mode="after")
    def _advance(self) -> Tiling:
        if 2 * self.overlap > self.size:
            raise ValueError(f"overlap {self.overlap} is more than half a tile of {self.size}; lower it")
        return self


class PreprocessingSpec(BaseModel):
    """All steps between the samples of a file and the model's input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(gt=0)
    height: int = Field(gt=0)
    resize: Resize = Resize.LETTERBOX
    pad_value: int = Field(default=114, ge=0, le=255)
    scale: float = 1.0 / 255.0
    """Factor for the 0-255 values."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Offset subtracted from the scaled values, per channel, RGB."""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Divisor of the result, per channel, RGB."""
    interpolation: Interpolation = Interpolation.LINEAR
    crop: ContentCrop | None = None
    """Crop applied first."""
    # Left out of the card when absent, so that bundles without tiles keep their digest.
    tiles: Tiling | None = Field(default=None, exclude_if=lambda tiles: tiles is None)
    """Tiles of a detector, into which a large image is split first."""
    # Left out of the card for 8-bit images, so that bundles without white levels keep their digest.
    white: int = Field(default=FULL_WHITE, ge=1, le=FULL_WHITE, exclude_if=lambda white: white == FULL_WHITE)
    """White level: the value of 16-bit samples that becomes 255 while the file is decoded."""

    @model_validator(mode="after")
    def _show_all_of_a_tile(self) -> PreprocessingSpec:
        if self.tiles and (self.crop or self.resize is Resize.CENTER_CROP):
            raise ValueError("tiles need resize letterbox or stretch, and no crop")
        return self
