"""Start runs, watch them and store their results."""
