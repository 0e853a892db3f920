"""Prediction server: models behind an HTTP API."""
