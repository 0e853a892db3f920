"""Schemas of the review database, each a step from the one before."""
