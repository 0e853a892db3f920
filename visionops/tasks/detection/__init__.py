"""Detectors: boxes with classes, trained with Ultralytics."""
