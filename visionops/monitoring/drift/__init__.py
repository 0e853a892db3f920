"""Detect whether the traffic has changed since the model was trained, and in which columns.

Two tables of records (`visionops.monitoring.record`): the reference, which came with the model, and a window of the
log. The unit is the image: several boxes of one image say little more than one, so an image gives a column one number.

    numbers      features, count, an image's mean confidence, area and centre of boxes    Cramér-von Mises; where many
                                                                                          are equal: D, permutation
    classes      each class: the share of the images that show it                         Fisher's exact test
    labels       the share of each class among all boxes                                  distance, permutation
    embedding    the vectors as a whole                                                   MMD, permutation

A column drifted when its p-value, after Holm's correction over all columns, is at most ``alpha`` *and* its effect is
large enough to matter. The first condition excludes chance; the second keeps a million images from making every column
drift.

>>> report = detect_drift(reference, window, DriftSettings())
>>> report.explain()
'Drift: 1 of 20 columns in 100 images against 135 of the reference: brightness rose from 0.497 to 0.635 (d = 0.748).'
"""

from __future__ import annotations

from visionops.monitoring.drift.report import ColumnDrift, ColumnKind, DriftReport, Verdict

# Artifact stores refer to reports of earlier runs as `visionops.monitoring.drift.DriftReport`.
__all__ = ["ColumnDrift", "ColumnKind", "DriftReport", "Verdict"]
