"""Look at every image and every label before anything is learned from them.

All of each image is decoded, by the decoder that serving uses, so that what passes here cannot fail there. What is
found becomes a `Finding`; the policy says which findings stop the run.

>>> report = validate(dataset, config.validation)
>>> report.counts_by_code()
{<Code.OUT_OF_BOUNDS_BOX: 'out_of_bounds_box'>: 7, <Code.LEAK: 'leak'>: 27}
>>> report.raise_if_stopped()
"""

from __future__ import annotations

from visionops.data.validation.inspected import InspectedImages
from visionops.data.validation.report import ValidationReport

# Artifact stores name reports of earlier runs by `visionops.data.validation.ValidationReport`.
__all__ = ["InspectedImages", "ValidationReport"]
