"""Test stacks and deployers."""
