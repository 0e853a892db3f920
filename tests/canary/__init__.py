"""Releases that are held."""
