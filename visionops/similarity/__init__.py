"""Images that resemble one another: an embedding of an image, and an index that finds the nearest ones."""
