"""A model as a node of a Seldon Core 1 graph: Seldon's Python microservice over `visionops.inference`.

It runs in an environment of its own, because Seldon's wrapper pins old packages: make seldon
"""
