"""Releases that are held: a candidate beside the champion, what is decided of it, and what the registry keeps."""
