"""Check every image and every label before training.

Each image is decoded completely, with the decoder that serving uses, so that a checked image cannot fail there.
Problems become `Finding` objects; the policy sets which findings stop the run.

>>> report = validate(dataset, config.validation)
>>> report.counts_by_code()
{<Code.OUT_OF_BOUNDS_BOX: 'out_of_bounds_box'>: 7, <Code.LEAK: 'leak'>: 27}
>>> report.raise_if_stopped()
"""

from __future__ import annotations

from visionops.data.validation.inspected import InspectedImages
from visionops.data.validation.report import ValidationReport

# Artifact stores refer to reports of earlier runs as `visionops.data.validation.ValidationReport`.
__all__ = ["InspectedImages", "ValidationReport"]
