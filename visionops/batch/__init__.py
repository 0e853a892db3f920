"""Many images at once, answered by a bundle exactly as its server would answer, into tables.

    output/
    ├── predictions.parquet, predictions.csv   a row an image
    ├── detections.parquet, detections.csv     a row a box (of a detector)
    ├── summary.json                           `BatchSummary`
    └── segments/<model>/*.parquet             answers by SHA-256: what a second run does not ask again

Columns of predictions: ``key`` (path below the folder), ``sha256``, ``width``, ``height``, ``model``, ``version``,
``error`` ("" when answered); of a detector ``detections`` (their number); of labels, for each attribute A with a class
C: ``A`` (the class answered), ``A_confidence`` and ``A_p_C`` (a probability for each class). Of detections: ``key``,
``sha256``, ``model``, ``version``, ``class_id``, ``class_name``, ``confidence``, ``x1``, ``y1``, ``x2``, ``y2`` (pixels
of the original image after EXIF rotation), best first within an image.
"""

from __future__ import annotations

from visionops.batch.answers import BatchAnswers
from visionops.batch.report import BatchSummary, LotSummary

# Artifact stores name results of earlier runs by `visionops.batch.BatchSummary`.
__all__ = ["BatchAnswers", "BatchSummary", "LotSummary"]
