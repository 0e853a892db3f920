"""What runs outside a pipeline."""
