"""Find images that resemble one another: an embedding of an image, and an index of the nearest ones."""
