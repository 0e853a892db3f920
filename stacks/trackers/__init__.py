"""Adapters of experiment trackers: one module for each flavor, found by `stacks.tracking`."""
