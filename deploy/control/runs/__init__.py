"""Starts runs, watches them and keeps how they ended."""
