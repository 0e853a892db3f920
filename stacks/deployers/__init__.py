"""Model deployers: where a champion answers."""
