"""Detectors: boxes with classes, learned with Ultralytics."""
