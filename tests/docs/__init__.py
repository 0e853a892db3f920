"""The guides, as written."""
