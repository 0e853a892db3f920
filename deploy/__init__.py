"""Servers, images and deployment files: everything that runs outside a pipeline."""
