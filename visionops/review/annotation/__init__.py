"""Annotation tools: the port, and the exchange of items and decisions with whichever tool a stack has."""
