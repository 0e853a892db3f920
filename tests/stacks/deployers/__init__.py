"""Model deployers."""
