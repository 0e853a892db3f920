"""What a classifier learns with."""

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
    """Which parameters of a classifier are learned."""

    FROZEN = "frozen"
    """The heads alone, on features of a pretrained backbone that are computed once per image."""
    FINE_TUNE = "fine_tune"
    """Heads first as in `frozen`, then all, at a small rate."""
    SCRATCH = "scratch"
    """All, from random weights."""


class Balance(enum.StrEnum):
    """What is done about classes of unequal size."""

    NONE = "none"
    WEIGHTS = "weights"
    """The loss of a rare class counts for more."""
    SAMPLER = "sampler"
    """Images of a rare class are drawn more often."""


class GoalMetric(enum.StrEnum):
    """What the threshold of a binary head is chosen for, on the val split."""

    NONE = "none"
    """No threshold: the more probable class is answered."""
    F1 = "f1"
    BALANCED_ACCURACY = "balanced_accuracy"
    RECALL_AT_PRECISION = "recall_at_precision"
    """The most recall among thresholds whose precision is at least ``precision``."""


class ThresholdGoal(Settings):
    """What decides when the positive class is answered."""

    metric: GoalMetric = GoalMetric.NONE
    """What the threshold is chosen for, on val."""
    precision: float = Field(default=0.95, gt=0, le=1)
    """For `recall_at_precision`."""


class Augmentation(Settings):
    """Random changes of training images, drawn anew in each epoch. `frozen` learning has none."""

    fliplr: float = Field(default=0.5, ge=0, le=1)
    """Probability of a mirror image."""
    flipud: float = Field(default=0.0, ge=0, le=1)
    """Probability of an upside-down image."""
    degrees: float = Field(default=0.0, ge=0, le=180)
    """Rotated by up to so much either way."""
    scale: float = Field(default=0.0, ge=0, lt=1)
    """Enlarged or shrunk by up to this share."""
    translate: float = Field(default=0.0, ge=0, lt=1)
    """Moved by up to this share of the side."""
    brightness: float = Field(default=0.0, ge=0, lt=1)
    """Made brighter or darker by up to this share."""
    contrast: float = Field(default=0.0, ge=0, lt=1)
    """Contrast raised or lowered by up to this share."""


class Views(enum.StrEnum):
    """As what each training image is also shown to the heads of a frozen backbone."""

    NONE = "none"
    """As it is, no more."""
    MIRRORED = "mirrored"
    """And as its mirror image, left to right."""
    DIHEDRAL = "dihedral"
    """In all eight ways a square can lie: turned by quarter turns, and mirrored. For what has no upright."""


class LabelTraining(TrainingBase):
    """What a classifier learns with: of one label (`classification`) or of several (`attributes`).

    A setting that would have no effect is refused.
    """

    task: Literal["classification", "attributes"] = "classification"
    """The use case's task; may be left out."""
    model: str = "efficientnet_lite0"
    """A backbone: efficientnet_lite0 (its weights install with us), dinov2_vits14, any model of timm by name; or one of
    ours, from scratch: cnn (three convolutions), residual (a stem and four residual blocks)."""
    weights: str = "auto"
    """`auto`: pretrained by the model's name, and refused where they cannot be had (`scratch` needs none); `none`:
    random, with `scratch` alone; or a path to a file."""
    learning: Learning = Learning.FROZEN
    """Which parameters are learned."""
    image_size: int | None = Field(default=None, ge=16, le=1024)
    """Sides of the model's input in pixels; the backbone's own when absent."""
    resize: Literal["stretch", "center_crop", "letterbox"] = "stretch"
    """How an image is brought to the input size: both sides scaled; the middle square cut out; or fitted and padded."""
    crop: ContentCrop | None = None
    """Cut each image to its content first; part of the bundle, so the same everywhere."""
    filters: int = Field(default=32, ge=1, le=1024)
    """`cnn`, `residual`: channels of the first convolution."""
    kernel: Literal[3, 5, 7] = 3
    """`cnn`: side of its convolutions."""
    l2: float | None = Field(default=None, gt=0, le=1000)
    """`frozen`, `fine_tune`: what the squared length of the heads costs beside the mean loss; the best of a few on val
    when absent."""
    views: Views = Views.NONE
    """`frozen`, `fine_tune`: as what else the heads see each training image."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Before the heads. From here to ``augmentation``: not of `frozen` learning, which solves for the heads."""
    epochs: int = Field(default=30, ge=1)
    """At most."""
    patience: int = Field(default=10, ge=0)
    """Epochs without improvement on val after which training stops; 0: never."""
    batch: int = Field(default=32, ge=1)
    """Images of one training step."""
    optimizer: Literal["AdamW", "Adam", "SGD"] = "AdamW"
    """SGD with Nesterov's momentum of 0.9."""
    learning_rate: float | None = Field(default=None, gt=0)
    """0.001 from scratch and 0.0001 to fine-tune when absent."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decay of the weights in each step."""
    scheduler: Literal["plateau", "cosine", "none"] = "plateau"
    """`plateau`: a third of the rate after 3 epochs without a lower loss on val; `cosine`: down to a hundredth."""
    gradient_clip: float = Field(default=1.0, ge=0)
    """Largest norm of the gradient; 0: not clipped."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of each target that is spread over all classes."""
    augmentation: Augmentation = Augmentation()
    """Random changes of the training images."""
    balance: Balance = Balance.NONE
    """`sampler` not with `frozen`, which draws nothing."""
    head_weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """`attributes`: how much each counts in the loss; 1 when not named. Not of `frozen` learning, whose heads do not
    touch one another."""
    calibrate: bool = True
    """Fit one temperature per head on val, so that a confidence is a frequency."""
    threshold: ThresholdGoal = ThresholdGoal()
    """When the positive class of two is answered."""

    @model_validator(mode="after")
    def _agree(self) -> LabelTraining:
        is_scratch = self.learning is Learning.SCRATCH
        if self.model in OWN_NETWORKS and not is_scratch:
            raise ValueError(f"learning: {self.model} has no pretrained weights; set learning: scratch")
        if is_scratch and self.weights not in {"auto", "none"}:
            raise ValueError("weights: scratch starts from random ones; leave it out, or set learning: fine_tune")
        if not is_scratch and self.weights == "none":
            raise ValueError(f"weights: {self.learning.value} builds on pretrained ones; set learning: scratch")
        if self.learning is Learning.FROZEN and self.balance is Balance.SAMPLER:
            raise ValueError("balance: frozen learning draws no images; set weights")
        for name, reason in self.idle_settings().items():
            if getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True):
                raise ValueError(f"{name}: has no effect with {reason}; leave it out")
        if self.head_weights and not any(self.head_weights.values()):
            raise ValueError("head_weights: all are 0; give one of them more")
        if self.threshold.metric is not GoalMetric.RECALL_AT_PRECISION and self.threshold.precision != 0.95:
            raise ValueError("threshold.precision: is for recall_at_precision; leave it out, or set that metric")
        return self

    @property
    def planned_epochs(self) -> int:
        """See `TrainingBase`."""
        return self.epochs

    def idle_settings(self) -> dict[str, str]:
        """The settings that have no effect beside the others, each with what makes them so."""
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
"""Those that `LabelTraining.model` may name beside timm's."""


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
