"""Adapt artifacts to the domain: a step reads, calls one function, logs and returns."""
