"""The routes of the control service."""
