"""Settings for training a classifier."""

from __future__ import annotations

import enum
from typing import Annotated, Literal

from pydantic import Field, model_validator

from visionops.inference.preprocessing_spec import ContentCrop
from visionops.settings import Settings
from visionops.tasks.training_settings import TrainingBase

__all__ = [
    "OWN_NETWORKS",
    "Augmentation",
    "Balance",
    "GoalMetric",
    "LabelTraining",
    "Learning",
    "ThresholdGoal",
    "Views",
]


class Learning(enum.StrEnum):
    """Parameters of a classifier that are trained."""

    FROZEN = "frozen"
    """Only the heads, on features of a pretrained backbone that are computed once for each image."""
    FINE_TUNE = "fine_tune"
    """The heads first as in `frozen`, then all, at a small learning rate."""
    SCRATCH = "scratch"
    """All, from random weights."""


class Balance(enum.StrEnum):
    """How to balance classes of unequal size."""

    NONE = "none"
    WEIGHTS = "weights"
    """Weight the loss of a rare class higher."""
    SAMPLER = "sampler"
    """Draw images of a rare class more often."""


class GoalMetric(enum.StrEnum):
    """Goal for choosing the threshold of a binary head, on the val split."""

    NONE = "none"
    """No threshold: the more probable class is the answer."""
    F1 = "f1"
    BALANCED_ACCURACY = "balanced_accuracy"
    RECALL_AT_PRECISION = "recall_at_precision"
    """Highest recall among thresholds whose precision is at least ``precision``."""


class ThresholdGoal(Settings):
    """Goal for the threshold from which the positive class is answered."""

    metric: GoalMetric = GoalMetric.NONE
    """What the threshold is chosen for, on val."""
    precision: float = Field(default=0.95, gt=0, le=1)
    """Least precision for `recall_at_precision`."""


class Augmentation(Settings):
    """Random changes of training images, drawn anew in each epoch. `frozen` learning does not use them."""

    fliplr: float = Field(default=0.5, ge=0, le=1)
    """Probability of a mirror image."""
    flipud: float = Field(default=0.0, ge=0, le=1)
    """Probability of an upside-down image."""
    degrees: float = Field(default=0.0, ge=0, le=180)
    """Largest rotation either way, in degrees."""
    scale: float = Field(default=0.0, ge=0, lt=1)
    """Largest enlargement or shrinkage, as a share."""
    translate: float = Field(default=0.0, ge=0, lt=1)
    """Largest shift, as a share of the side."""
    brightness: float = Field(default=0.0, ge=0, lt=1)
    """Made brighter or darker by up to this share."""
    contrast: float = Field(default=0.0, ge=0, lt=1)
    """Contrast raised or lowered by up to this share."""


class Views(enum.StrEnum):
    """Additional views of each training image for the heads of a frozen backbone."""

    NONE = "none"
    """Only the unchanged image."""
    MIRRORED = "mirrored"
    """Also its mirror image, left to right."""
    DIHEDRAL = "dihedral"
    """All eight orientations of a square: quarter turns, and mirrored. For images without an upright orientation."""


class LabelTraining(TrainingBase):
    """Settings for training a classifier of one label (`classification`) or several (`attributes`).

    A setting that would have no effect is refused.
    """

    task: Literal["classification", "attributes"] = "classification"
    """The use case's task; may be left out."""
    model: str = "efficientnet_lite0"
    """A backbone: efficientnet_lite0 (its weights are installed with VisionOps), dinov2_vits14, any model of timm by
    name; or one trained from scratch: cnn (three convolutions), residual (a stem and four residual blocks)."""
    weights: str = "auto"
    """`auto`: pretrained weights by the model's name, refused where there are none (`scratch` needs none); `none`:
    random weights, only with `scratch`; or a path to a file."""
    learning: Learning = Learning.FROZEN
    """Which parameters are learned."""
    image_size: int | None = Field(default=None, ge=16, le=1024)
    """Side of the model's input in pixels; the backbone's own when absent."""
    resize: Literal["stretch", "center_crop", "letterbox"] = "stretch"
    """How an image is brought to the input size: both sides scaled; the middle square cut out; or fitted and padded."""
    crop: ContentCrop | None = None
    """Crop each image to its content first; stored in the bundle, so inference does the same."""
    filters: int = Field(default=32, ge=1, le=1024)
    """`cnn`, `residual`: number of channels of the first convolution."""
    kernel: Literal[3, 5, 7] = 3
    """`cnn`: kernel size of its convolutions."""
    l2: float | None = Field(default=None, gt=0, le=1000)
    """`frozen`, `fine_tune`: weight of the squared length of the heads in the loss; the best of a few on val when
    absent."""
    views: Views = Views.NONE
    """`frozen`, `fine_tune`: additional views of each training image for the heads."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before the heads. From here to ``augmentation``: not for `frozen` learning, which solves for the
    heads."""
    epochs: int = Field(default=30, ge=1)
    """Maximum number of epochs."""
    patience: int = Field(default=10, ge=0)
    """Epochs without improvement on val after which training stops; 0: never."""
    batch: int = Field(default=32, ge=1)
    """Images of one training step."""
    optimizer: Literal["AdamW", "Adam", "SGD"] = "AdamW"
    """`SGD` uses Nesterov momentum of 0.9."""
    learning_rate: float | None = Field(default=None, gt=0)
    """0.001 from scratch and 0.0001 to fine-tune when absent."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decay of the weights in each step."""
    scheduler: Literal["plateau", "cosine", "none"] = "plateau"
    """`plateau`: divides the rate by three after 3 epochs without a lower loss on val; `cosine`: falls to a
    hundredth."""
    gradient_clip: float = Field(default=1.0, ge=0)
    """Largest norm of the gradient; 0 disables clipping."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of each target that is spread over all classes."""
    augmentation: Augmentation = Augmentation()
    """Random changes of the training images."""
    balance: Balance = Balance.NONE
    """`sampler` is not for `frozen`, which does not draw images."""
    head_weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """`attributes`: weight of each head in the loss; 1 when not named. Not for `frozen` learning, whose heads are
    independent of one another."""
    calibrate: bool = True
    """Fit one temperature for each head on val, so that confidences are frequencies."""
    threshold: ThresholdGoal = ThresholdGoal()
    """When the positive class of two is answered."""

    @model_validator(mode="after")
    def _agree(self) -> LabelTraining:
        is_scratch = self.learning is Learning.SCRATCH
        if self.model in OWN_NETWORKS and not is_scratch:
            raise ValueError(f"learning: {self.model} has no pretrained weights; set learning: scratch")
        if is_scratch and self.weights not in {"auto", "none"}:
            raise ValueError("weights: scratch starts from random weights; remove it, or set learning: fine_tune")
        if not is_scratch and self.weights == "none":
            raise ValueError(f"weights: {self.learning.value} needs pretrained weights; set learning: scratch")
        if self.learning is Learning.FROZEN and self.balance is Balance.SAMPLER:
            raise ValueError("balance: frozen learning does not draw images; set weights")
        for name, reason in self.idle_settings().items():
            if getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True):
                raise ValueError(f"{name}: has no effect with {reason}; remove it")
        if self.head_weights and not any(self.head_weights.values()):
            raise ValueError("head_weights: all are 0; set one above 0")
        if self.threshold.metric is not GoalMetric.RECALL_AT_PRECISION and self.threshold.precision != 0.95:
            raise ValueError("threshold.precision: is only for recall_at_precision; remove it, or set that metric")
        return self

    @property
    def planned_epochs(self) -> int:
        """See `TrainingBase`."""
        return self.epochs

    def idle_settings(self) -> dict[str, str]:
        """Return the settings that have no effect beside the others, each with the reason."""
        idle: dict[str, str] = {}
        if self.model not in OWN_NETWORKS:
            idle["filters"] = f"model: {self.model} (cnn and residual have it)"
        if self.model != "cnn":
            idle["kernel"] = f"model: {self.model} (cnn has it)"
        if self.task == "classification":
            idle["head_weights"] = "task: classification, which has one head"
        if self.learning is Learning.SCRATCH:
            idle |= dict.fromkeys(("l2", "views"), "learning: scratch, which has no frozen backbone")
        if self.learning is Learning.FROZEN:
            idle |= dict.fromkeys(_LOOP_SETTINGS, "learning: frozen, which solves for the heads, each by itself")
        return idle


OWN_NETWORKS = ("cnn", "residual")
"""Backbones of ours that `LabelTraining.model` may name beside timm's."""


_LOOP_SETTINGS = (
    "dropout",
    "epochs",
    "patience",
    "batch",
    "optimizer",
    "learning_rate",
    "weight_decay",
    "scheduler",
    "gradient_clip",
    "label_smoothing",
    "augmentation",
    "head_weights",
)
