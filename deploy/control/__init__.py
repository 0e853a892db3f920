"""The control service: runs, models and reviews over HTTP."""
