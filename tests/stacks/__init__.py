"""Stacks and deployers."""
