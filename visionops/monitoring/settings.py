"""Settings of monitoring: how traffic is compared, and when to alert and retrain."""

from __future__ import annotations

import enum

from pydantic import Field, model_validator

from visionops.inference.record_rules import ColumnRules, RecordRules, SourcePattern
from visionops.settings import Settings

__all__ = [
    "DriftMethod",
    "DriftSettings",
    "EstimationSettings",
    "MonitoringConfig",
    "PerformanceLevels",
    "ReferenceKind",
    "RetrainPolicy",
]


class DriftMethod(enum.StrEnum):
    """Tests that decide what drifted."""

    VISIONOPS = "visionops"
    """Our tests, corrected for the number of columns, and only changes that are large enough to matter."""
    EVIDENTLY = "evidently"
    """Evidently's `DataDriftPreset`: its own test and threshold for each column, without a correction."""


class DriftSettings(Settings):
    """When a difference counts as drift."""

    method: DriftMethod = DriftMethod.VISIONOPS
    """Tests that decide. ``evidently`` ignores all other settings here, and needs a stack with Evidently's data
    validator."""
    alpha: float = Field(default=0.01, gt=0, lt=1)
    """Chance of a false alarm in any column of a window without changes. At 0.05, daily monitoring would give a false
    alarm every third week."""
    min_images: int = Field(default=30, ge=2)
    """Least number of images with a value in a column, in either table; below it the column is "too few to say"."""
    min_shown: int = Field(default=10, ge=1)
    """Least number of images of both tables together that show a class; below it the class is "too few to say" and does
    not make the correction stricter for the others."""
    min_gap: float = Field(default=0.1, ge=0, le=1)
    """Least effect of a number: largest difference between the two cumulative shares; of the mix of classes: total
    variation distance. 0 means equal, 1 nothing in common. A normal number that moves by a quarter of its spread has
    0.1."""
    min_share_change: float = Field(default=0.2, ge=0, le=3.15)
    """Least effect of a class: Cohen's h of its share of images, which weighs 1 % to 4 % like 50 % to 60 %."""
    min_mmd: float = Field(default=0.05, ge=0, le=1)
    """Least effect of embeddings: maximum mean discrepancy of their principal components under an RBF kernel. 0 means
    equal; 0.05 one component moved by a third of its spread; 0.3 two completely separate tables."""
    embedding_images: int = Field(default=500, ge=10)
    """Images drawn from each table for the test of embeddings, whose cost grows with their square."""
    permutations: int = Field(default=9999, ge=99)
    """Least number of random exchanges of images for a column that may have drifted. The least p-value is one divided
    by it, and Holm requires alpha divided by the number of columns: with many columns or a small ``alpha`` it becomes 2
    * columns / alpha instead."""
    seed: int = 0
    """Seed of the random exchanges and draws."""


class EstimationSettings(Settings):
    """How the gate's metric is estimated without labels."""

    enabled: bool = True
    """Estimate at all."""
    draws: int = Field(default=500, ge=100, le=100_000)
    """Number of draws of the calibration and of the truth of every image, from which the interval is computed."""
    min_images: int = Field(default=30, ge=2)
    """Least number of predictions of a window, or of a part of it, for an estimate."""
    min_held_out: int = Field(default=25, ge=2)
    """Least number of labelled val images to calibrate on, for an estimate."""
    seed: int = Field(default=0, ge=0)
    """Seed of the draws."""


class PerformanceLevels(Settings):
    """Levels of a metric below which an alert is sent, whatever its value at test."""

    warning: float | None = Field(default=None, ge=0, le=1)
    """Figure below which a warning is sent; absent: none."""
    critical: float | None = Field(default=None, ge=0, le=1)
    """Figure below which a critical alert is sent; absent: none."""

    @model_validator(mode="after")
    def _agree(self) -> PerformanceLevels:
        if self.warning is not None and self.critical is not None and self.critical > self.warning:
            raise ValueError(f"critical {self.critical} is above warning {self.warning}; lower it")
        return self


_ACCURACY = PerformanceLevels(warning=0.85, critical=0.8)


class RetrainPolicy(Settings):
    """When to retrain. Each threshold alone is a reason; an absent one is not checked."""

    warn_share: float = Field(default=0, ge=0, le=1)
    """Share of drifted columns above which an alert is sent; 0 alerts for any. A darker image is one column of
    twenty."""
    drift_share: float = Field(default=0.25, ge=0, le=1)
    """Share of drifted columns from which to retrain."""
    embedding: bool = True
    """Retrain when the images as a whole have changed, whatever the single columns show."""
    performance_drop: float | None = Field(default=0.05, ge=0, le=1)
    """Drop of the gate's metric from the champion's test split to labelled traffic, from which to retrain. The whole
    interval must lie below, so that a few labels do not trigger a training; without an interval nothing follows."""
    levels: dict[str, PerformanceLevels] = Field(default={"accuracy": _ACCURACY, "balanced_accuracy": _ACCURACY})
    """Levels of each metric below which an alert is sent; only the gate's metric counts, and no training follows. The
    whole interval on labelled traffic must lie below. Other metrics have no default: 0.8 is poor for accuracy and good
    for mAP."""
    estimated_drop: float | None = Field(default=None, ge=0, le=1)
    """Like ``performance_drop``, for the estimate without labels. Absent by default: an estimate triggers nothing."""
    min_labelled: int = Field(default=30, ge=2)
    """Least number of labelled images that the champion has not seen, for their metric to count: resamples of a few
    images are overconfident."""
    labels_are_chosen: bool = False
    """Images are selected for labelling because they look hard, or because the model was unsure. A metric on them does
    not represent the traffic: it is reported, but triggers no training. False means that they are a random share of
    it."""
    max_age_days: float | None = Field(default=None, gt=0)
    """Age of the champion from which to retrain, in days."""
    new_labels: int | None = Field(default=500, ge=1)
    """Number of images labelled since the last training, from which to retrain."""
    min_new_labels: int = Field(default=50, ge=0)
    """Least number of new labels for a training. With fewer, it would give the same model; the decision says what to
    label."""
    cooldown_hours: float = Field(default=24, ge=0)
    """Least hours between two automatic trainings."""

    @model_validator(mode="after")
    def _agree(self) -> RetrainPolicy:
        if self.warn_share > self.drift_share:
            raise ValueError(f"warn_share {self.warn_share} is above drift_share {self.drift_share}; lower it")
        if self.new_labels is not None and self.new_labels < self.min_new_labels:
            raise ValueError(f"new_labels {self.new_labels} is below min_new_labels {self.min_new_labels}")
        return self


class ReferenceKind(enum.StrEnum):
    """Baseline of the comparison."""

    BUNDLE = "bundle"
    """The champion's own predictions of its val split; shows all changes since the training, however slow."""
    WINDOW = "window"
    """Its traffic before the window; shows recent changes. A slow change moves the reference along and is not
    detected."""


class MonitoringConfig(Settings):
    """How the endpoint's traffic is monitored."""

    window_hours: float = Field(default=24, gt=0, allow_inf_nan=False)
    """Length of the window of predictions, in hours before the run."""
    reference: ReferenceKind = ReferenceKind.BUNDLE
    """What the window is compared with."""
    reference_hours: float = Field(default=168, gt=0, allow_inf_nan=False)
    """With ``reference: window``: length of the reference before the window, in hours."""
    ignore_drills: bool = False
    """Exclude requests of `--pipeline drift-drill` from the comparison. With False, a drill triggers its own alarm."""
    columns: ColumnRules = Field(default_factory=dict)
    """Additional columns to compare: name to ``module:function``, which takes ``image``, uint8 (H, W, 3) RGB, or
    ``prediction``, the answer in the form of the API, or both, and returns a number or a short text. Stored in the
    bundle by the next training."""
    source_pattern: SourcePattern = ""
    """Source of traffic without the header X-Source: a regular expression whose group ``source`` is the camera,
    searched in the request id, and in the keys of the data set's images for the reference. Stored in the bundle,
    too."""
    drift: DriftSettings = DriftSettings()
    """When a difference is a drift."""
    estimation: EstimationSettings = EstimationSettings()
    """How the gate's metric is estimated without labels."""
    policy: RetrainPolicy = RetrainPolicy()
    """When people are alerted, and when a training follows."""

    @property
    def record_rules(self) -> RecordRules:
        """Return the rules that a training stores in the card of its bundle."""
        return RecordRules(columns=self.columns, source_pattern=self.source_pattern)
