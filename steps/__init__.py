"""Adapters between artifacts and the domain: a step reads, calls one function, logs and returns."""
