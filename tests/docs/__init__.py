"""Tests of the commands and examples in the documentation."""
