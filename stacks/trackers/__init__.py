"""Adapt experiment trackers, in one module for each flavor; `stacks.tracking` selects the adapter."""
