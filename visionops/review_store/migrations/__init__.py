"""Schemas of the review database, each as a migration from the one before."""
