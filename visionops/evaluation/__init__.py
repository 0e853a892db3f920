"""Evaluate a bundle: the parts that all tasks share."""
