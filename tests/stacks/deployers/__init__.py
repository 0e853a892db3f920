"""Test model deployers."""
