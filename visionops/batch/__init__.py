"""Predict many images with a bundle, exactly as its server would, and write the answers to tables.

    output/
    ├── predictions.parquet, predictions.csv   a row an image
    ├── detections.parquet, detections.csv     a row a box (of a detector)
    ├── summary.json                           `BatchSummary`
    └── segments/<model>/*.parquet             answers by SHA-256, which a second run reuses

Columns of predictions: ``key`` (path below the folder), ``sha256``, ``width``, ``height``, ``model``, ``version``,
``error`` ("" without an error); for a detector ``detections`` (their number); for labels, for each attribute A with a
class C: ``A`` (the predicted class), ``A_confidence`` and ``A_p_C`` (a probability for each class). Columns of
detections: ``key``, ``sha256``, ``model``, ``version``, ``class_id``, ``class_name``, ``confidence``, ``x1``, ``y1``,
``x2``, ``y2`` (pixels of the original image after EXIF rotation), highest confidence first within an image.
"""

from __future__ import annotations

from visionops.batch.answers import BatchAnswers
from visionops.batch.report import BatchSummary, LotSummary

# Artifact stores name results of earlier runs by `visionops.batch.BatchSummary`.
__all__ = ["BatchAnswers", "BatchSummary", "LotSummary"]
