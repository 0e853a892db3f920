"""Data sets: reading, validation, splitting, conversion."""
