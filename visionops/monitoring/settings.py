"""What the endpoint's traffic is compared by, and what follows from a difference."""

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
    """Whose tests decide what drifted."""

    VISIONOPS = "visionops"
    """Ours, corrected for the number of columns, and only changes that are large enough to matter."""
    EVIDENTLY = "evidently"
    """Evidently's `DataDriftPreset`: its own choice of a test and a threshold for each column, without a correction."""


class DriftSettings(Settings):
    """When a difference is a drift."""

    method: DriftMethod = DriftMethod.VISIONOPS
    """Whose tests decide. ``evidently`` reads no other setting here, and needs a stack whose data validator has it."""
    alpha: float = Field(default=0.01, gt=0, lt=1)
    """Chance that a window without any change raises an alarm in whatever column. At 0.05, daily monitoring would cry
    wolf every third week."""
    min_images: int = Field(default=30, ge=2)
    """With a value in a column, in either table; below it the column is "too few to say"."""
    min_shown: int = Field(default=10, ge=1)
    """Images of both tables together that show a class; below it the class is "too few to say", and does not make the
    correction stricter for the others."""
    min_gap: float = Field(default=0.1, ge=0, le=1)
    """Of a number: largest difference between the two cumulative shares; of the mix of classes: total variation
    distance. 0 the same, 1 nothing in common. A normal number that moves by a quarter of its spread has 0.1."""
    min_share_change: float = Field(default=0.2, ge=0, le=3.15)
    """Of the share of images that show a class: Cohen's h, which counts 1 % to 4 % as much as 50 % to 60 %."""
    min_mmd: float = Field(default=0.05, ge=0, le=1)
    """Of embeddings: maximum mean discrepancy of their principal components under an RBF kernel. 0 the same; 0.05 one
    component moved by a third of its spread; 0.3 the two tables wholly apart."""
    embedding_images: int = Field(default=500, ge=10)
    """Drawn from each table for the test of embeddings, whose cost grows with their square."""
    permutations: int = Field(default=9999, ge=99)
    """Random exchanges of images where a column may have drifted, at least. The least p-value is one in so many, and
    Holm asks for alpha divided by the number of columns: with many columns or a small ``alpha`` there are
    2 * columns / alpha exchanges instead."""
    seed: int = 0
    """Of the random exchanges and draws."""


class EstimationSettings(Settings):
    """How the gate's metric is estimated without labels."""

    enabled: bool = True
    """Estimate at all."""
    draws: int = Field(default=500, ge=100, le=100_000)
    """Of the calibration, and of the truth of every image; the interval comes from them."""
    min_images: int = Field(default=30, ge=2)
    """Predictions of a window, or of a part of it, below which nothing is estimated."""
    min_held_out: int = Field(default=25, ge=2)
    """Labelled images of the val split to calibrate on, below which nothing is estimated."""
    seed: int = Field(default=0, ge=0)
    """Of the draws."""


class PerformanceLevels(Settings):
    """Below which figure of a metric people are told, however it was at test."""

    warning: float | None = Field(default=None, ge=0, le=1)
    """Figure below which a warning is sent; absent: none."""
    critical: float | None = Field(default=None, ge=0, le=1)
    """Figure below which a critical alert is sent; absent: none."""

    @model_validator(mode="after")
    def _agree(self) -> PerformanceLevels:
        if self.warning is not None and self.critical is not None and self.critical > self.warning:
            raise ValueError(f"critical {self.critical} is above warning {self.warning}: nobody is warned")
        return self


_ACCURACY = PerformanceLevels(warning=0.85, critical=0.8)


class RetrainPolicy(Settings):
    """Each threshold alone is a reason; absent: none."""

    warn_share: float = Field(default=0, ge=0, le=1)
    """Share of drifted columns above which people are told; 0: of any. A darker image is one column of twenty."""
    drift_share: float = Field(default=0.25, ge=0, le=1)
    """Share of drifted columns from which to train again."""
    embedding: bool = True
    """Train again when the images as a whole are others than before, whatever the single columns say."""
    performance_drop: float | None = Field(default=0.05, ge=0, le=1)
    """Of the gate's metric, from the champion's test figure down to labelled traffic. The whole interval must lie
    below, so that a few labels do not call for a training; without an interval nothing follows."""
    levels: dict[str, PerformanceLevels] = Field(default={"accuracy": _ACCURACY, "balanced_accuracy": _ACCURACY})
    """Metric to the levels below which people are told; only the gate's counts, and no training follows. The whole
    interval on labelled traffic must lie below. Other metrics have none: 0.8 is poor for accuracy and fine for mAP."""
    estimated_drop: float | None = Field(default=None, ge=0, le=1)
    """As ``performance_drop``, of the estimate without labels. Absent, as by default: an estimate calls for nothing."""
    min_labelled: int = Field(default=30, ge=2)
    """Labelled images that the champion has not seen, below which their figure says nothing: resamples of a few images
    are too sure."""
    labels_are_chosen: bool = False
    """Images are chosen for labelling because they look hard, or because the model was unsure. A figure on them says
    nothing of the traffic: it is reported, and calls for no training. False: they are a random share of the traffic."""
    max_age_days: float | None = Field(default=None, gt=0)
    """Of the champion."""
    new_labels: int | None = Field(default=500, ge=1)
    """Images labelled since the last training."""
    min_new_labels: int = Field(default=50, ge=0)
    """With fewer, training again would give the same model: it is said what to label instead."""
    cooldown_hours: float = Field(default=24, ge=0)
    """Between two trainings that nobody asked for."""

    @model_validator(mode="after")
    def _agree(self) -> RetrainPolicy:
        if self.warn_share > self.drift_share:
            raise ValueError(f"warn_share {self.warn_share} is above drift_share {self.drift_share}: nobody is warned")
        if self.new_labels is not None and self.new_labels < self.min_new_labels:
            raise ValueError(f"new_labels {self.new_labels} is below min_new_labels {self.min_new_labels}")
        return self


class ReferenceKind(enum.StrEnum):
    """What traffic is compared with."""

    BUNDLE = "bundle"
    """The champion's own predictions of its val split: what changed since it was trained, however slowly."""
    WINDOW = "window"
    """Its traffic before the window: what changed lately. A slow change moves the reference along and is not seen."""


class MonitoringConfig(Settings):
    """What the endpoint's traffic is compared by."""

    window_hours: float = Field(default=24, gt=0, allow_inf_nan=False)
    """Predictions that are looked at: those of so many hours before."""
    reference: ReferenceKind = ReferenceKind.BUNDLE
    """What the window is compared with."""
    reference_hours: float = Field(default=168, gt=0, allow_inf_nan=False)
    """With ``reference: window``: how far it reaches back from where the window begins."""
    ignore_drills: bool = False
    """Leave what `--pipeline drift-drill` sent out of the comparison. False: a drill sees its own alarm."""
    columns: ColumnRules = Field(default_factory=dict)
    """More to compare: name of a column to ``module:function``, which is given ``image``, uint8 (H, W, 3) RGB, or
    ``prediction``, the answer as the API has it, or both, and returns a number or a short text. Sealed into the bundle
    by the next training."""
    source_pattern: SourcePattern = ""
    """Where traffic has no header X-Source: a regular expression whose group ``source`` names the camera, searched in
    the request id, and in the keys of the data set's images for the reference. Sealed into the bundle, too."""
    drift: DriftSettings = DriftSettings()
    """When a difference is a drift."""
    estimation: EstimationSettings = EstimationSettings()
    """How the gate's metric is estimated without labels."""
    policy: RetrainPolicy = RetrainPolicy()
    """When people are alerted, and when a training follows."""

    @property
    def record_rules(self) -> RecordRules:
        """What a training seals into the card of its bundle."""
        return RecordRules(columns=self.columns, source_pattern=self.source_pattern)
