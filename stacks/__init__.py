"""Stacks: which components a pipeline runs on."""
