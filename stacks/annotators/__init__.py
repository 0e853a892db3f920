"""Annotators: flavor ``visionops_review``, and the annotation tool of the active stack."""
