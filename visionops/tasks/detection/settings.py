"""Settings for training a detector."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from visionops.data.settings import TrainingTiles
from visionops.tasks.training_settings import TrainingBase

__all__ = [
    "DetectionTraining",
]


class DetectionTraining(TrainingBase):
    """Settings for training a detector."""

    task: Literal["detection"] = "detection"
    """The use case's task; may be left out."""
    model: str = "yolov8n"
    """Any Ultralytics detector by name: yolov8n, yolo11s, yolo26n, …"""
    weights: str = "auto"
    """`auto`: pretrained weights by the model's name where available, else from scratch with a warning; `none`: from
    scratch; or a path to a `.pt` file or to a folder with `<model>.pt`."""
    image_size: int = Field(default=640, ge=32, le=4096, multiple_of=32)
    """Side of the model's input, a multiple of 32."""
    tiles: TrainingTiles | None = None
    """Split an image larger than a tile into overlapping tiles, each resized to `image_size`: in training, evaluation,
    serving and batch inference. Without it, every image is used as a whole."""
    epochs: int = Field(default=100, ge=1)
    """Passes over the training images, at most."""
    patience: int = Field(default=50, ge=0)
    """Epochs without improvement after which training stops; 0: never."""
    batch: int = Field(default=16, ge=1)
    """Images of one training step."""
    optimizer: Literal["auto", "SGD", "Adam", "AdamW", "NAdam", "RAdam", "RMSProp", "MuSGD"] = "auto"
    """`auto`: Ultralytics chooses, and chooses the learning rate, too."""
    learning_rate: float = Field(default=0.01, gt=0)
    """Learning rate at the start. `optimizer: auto` does not read it."""
    final_learning_rate: float = Field(default=0.01, gt=0, le=1)
    """Final learning rate as a fraction of `learning_rate`."""
    augmentation: dict[str, float | int | str | bool] = Field(default_factory=dict)
    """Ultralytics' augmentation settings by name: mosaic, fliplr, hsv_h, scale, …"""
    extra: dict[str, float | int | str | bool] = Field(default_factory=dict)
    """Any other Ultralytics training setting by name."""

    @property
    def planned_epochs(self) -> int:
        """See `TrainingBase`."""
        return self.epochs
