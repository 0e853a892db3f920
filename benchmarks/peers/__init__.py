"""Serve the same graph with other servers, each with a service file and, as pins conflict, its own environment."""
