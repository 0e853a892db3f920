"""Quantize a model to 8-bit integers."""
