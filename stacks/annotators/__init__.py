"""Define annotator flavor ``visionops_review`` and find the annotation tool of the active stack."""
