"""A model in 8-bit integers."""
