"""Annotation tools: the port, and the exchange of items and decisions with the configured tool."""
