"""What is done to an image before a model sees it, as a bundle stores it. `preprocessing` executes it."""

from __future__ import annotations

import enum

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["FULL_WHITE", "ContentCrop", "Interpolation", "PreprocessingSpec", "Resize", "Tiling"]

FULL_WHITE = 65535
"""White level of a file that uses all of its 16 bits."""


class Resize(enum.StrEnum):
    """How an image is brought to the input size."""

    LETTERBOX = "letterbox"
    """Scaled to fit with its aspect kept, centred, the rest padded (detectors)."""
    STRETCH = "stretch"
    """Both sides scaled to the input size, whatever becomes of the aspect."""
    CENTER_CROP = "center_crop"
    """What stands over on the longer side is cut, then scaled: the aspect is kept, to a pixel."""


class Interpolation(enum.StrEnum):
    """How pixels are resampled."""

    LINEAR = "linear"
    """Two neighbours a side, as the trainer of detectors does it; aliases when shrinking by more than two."""
    AREA = "area"
    """Mean over the covered area when shrinking, linear when enlarging."""


class ContentCrop(BaseModel):
    """Cut an image to what is not background: the bounding box of pixels unlike the border, made square.

    The background is the median colour of the outermost pixels. An image without content stays whole.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    tolerance: int = Field(default=12, ge=0, le=254)
    """Largest difference of a channel from the background's that still is background."""
    margin: float = Field(default=0.05, ge=0, le=1)
    """Added on each side, as a fraction of the longer side of the content."""


class Tiling(BaseModel):
    """Look at a large image in overlapping square tiles, each brought to the input size by itself.

    `visionops.inference.tiling` says where the tiles lie and how their boxes become one answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    size: int = Field(ge=32)
    """Side of a tile in pixels of the original image. An image no larger than a tile is looked at as a whole."""
    overlap: int = Field(ge=1)
    """Pixels that neighbours share, at least, and at most half a tile: an object up to this size lies whole in one."""
    max_tiles: int = Field(default=128, ge=1)
    """An image that takes more is refused: each tile costs an inference."""

    @model_validator(mode="after")
    def _advance(self) -> Tiling:
        if 2 * self.overlap > self.size:
            raise ValueError(f"overlap {self.overlap} is more than half a tile of {self.size}; lower it")
        return self


class PreprocessingSpec(BaseModel):
    """Everything between the samples of a file and the model's input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(gt=0)
    height: int = Field(gt=0)
    resize: Resize = Resize.LETTERBOX
    pad_value: int = Field(default=114, ge=0, le=255)
    scale: float = 1.0 / 255.0
    """Multiplies the 0-255 values."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Subtracted from the scaled values, per channel, RGB."""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Divides what is left, per channel, RGB."""
    interpolation: Interpolation = Interpolation.LINEAR
    crop: ContentCrop | None = None
    """Done first."""
    # Left out of the card when absent: a bundle from before there were tiles keeps its digest.
    tiles: Tiling | None = Field(default=None, exclude_if=lambda tiles: tiles is None)
    """Of detectors: a large image is cut into these first."""
    # As tiles: a bundle of 8-bit images, and one from before there were white levels, says nothing.
    white: int = Field(default=FULL_WHITE, ge=1, le=FULL_WHITE, exclude_if=lambda white: white == FULL_WHITE)
    """White level: the value of 16-bit samples that becomes 255 while the file is decoded."""

    @model_validator(mode="after")
    def _show_all_of_a_tile(self) -> PreprocessingSpec:
        if self.tiles and (self.crop or self.resize is Resize.CENTER_CROP):
            raise ValueError("tiles are shown whole: they go with resize letterbox or stretch, and without crop")
        return self
