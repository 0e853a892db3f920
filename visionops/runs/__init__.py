"""Runs that the control service starts, as data and pure functions. Knows no database, process or cluster."""
