"""Container images and compose files."""
