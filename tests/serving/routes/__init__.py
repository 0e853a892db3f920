"""The prediction server."""
