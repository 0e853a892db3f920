"""Runs of the control service, as data and pure functions, independent of databases, processes and clusters."""
