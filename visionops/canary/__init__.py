"""Releases on hold: try a candidate beside the champion, decide on it, and record it in the registry."""
